"""Where each model comes from."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Paper:
    """The publication a model follows.

    Attributes:
        title: short.
        year: of the publication.
        reference: arXiv number, or the proceedings.
    """

    title: str
    year: int
    reference: str


PAPERS: dict[str, Paper] = {
    "2dgan": Paper("Validation of Deep Convolutional GANs for Calorimeter Simulations", 2021, "arXiv 2103.13698"),
    "3dgan": Paper("Calorimetry with Deep Learning", 2019, "arXiv 1912.06794"),
    "adagan": Paper("AdaGAN: Boosting Generative Models", 2017, "arXiv 1701.02386"),
    "bib-ae": Paper("Getting High", 2020, "arXiv 2005.05334"),
    "calogan": Paper("CaloGAN", 2017, "arXiv 1712.10321"),
    "calpagan": Paper("CALPAGAN: Calorimetry for Particles using GANs", 2024, "arXiv 2401.02248"),
    "coarse-to-fine": Paper("Multiscale autoregressive densities", 2017, "arXiv 1703.03664"),
    "layer-energy": Paper("CaloFlow, L2LFlows: layer energies first", 2021, "arXiv 2106.05285"),
    "lhcb-wgan": Paper("Generative Models for Fast Calorimeter Simulation: the LHCb case", 2018, "arXiv 1812.01319"),
    "low-rank": Paper("Principal Component Analysis for the Exponential Family", 2001, "NIPS 14"),
    "pix2pix": Paper("Image-to-Image Translation with Conditional GANs", 2016, "arXiv 1611.07004"),
    "vae-gan": Paper("Getting High", 2020, "arXiv 2005.05334"),
    "wgan": Paper("Getting High", 2020, "arXiv 2005.05334"),
}
"""Publication of each key of `MODELS`."""
