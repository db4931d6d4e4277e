"""What jets look like: the variables that CALPAGAN compares, for the two hardest jets of each image.

For towers i of a jet with transverse momenta p_i at distances r_i from its axis (in rapidity and azimuth), and p_T the
transverse part of their vectors' sum:

* girth: sum of p_i r_i / p_T (Gallicchio and Schwartz, arXiv 1211.7038);
* two-point moment: sum over i and j of p_i p_j r_ij^beta / p_T^2 with beta = 0.2 (the same paper);
* tau_N: sum of p_i min over N axes of r_i,axis, over sum of p_i R (N-subjettiness; Thaler and Van Tilburg, arXiv
  1011.2268), by FastJet's contrib library with one-pass kT axes.

Trap: the paper gives neither beta nor the axes nor its jets' least momentum; these are choices.
"""

from __future__ import annotations

import numpy as np

from ..incident import Floats
from .clustering import JetFinder, Jets, find_jets
from .images import Images

VARIABLES = ("tau_1", "tau_2", "girth", "two_point_moment", "pt", "mass", "eta", "phi")
"""Variables of one jet; MeV and rad."""
BETWEEN = ("delta_eta", "delta_phi")
"""Variables of the two hardest jets: distances in eta and in azimuth, both from 0."""
BETA = 0.2
_CHUNK = 2000  # images clustered at once


def jet_observables(images: Images, finder: JetFinder | None = None) -> dict[str, Floats]:
    """Variables of the hardest jets of each image.

    Args:
        images: N images.
        finder: how jets are found.

    Returns:
        ``jet1_tau_1``, ..., ``jet1_phi``, ``jet2_tau_1``, ..., ``delta_eta``, ``delta_phi``, each (N,); NaN where an
        image has no such jet.

    Raises:
        CaloforgeError: if FastJet is not installed.
    """
    finder = finder or JetFinder()
    names = [f"jet{rank + 1}_{name}" for rank in range(finder.number) for name in VARIABLES]
    found = {name: np.full(len(images), np.nan) for name in names}
    for start in range(0, len(images), _CHUNK):
        part = images[start : start + _CHUNK]
        jets = find_jets(part, finder)
        values = observables_of(jets, finder.radius)
        for rank in range(finder.number):
            which = jets.rank == rank
            for name in VARIABLES:
                found[f"jet{rank + 1}_{name}"][start + jets.row[which]] = values[name][which]
    if finder.number > 1:
        found["delta_eta"] = np.abs(found["jet1_eta"] - found["jet2_eta"])
        found["delta_phi"] = np.abs(_wrapped(found["jet1_phi"] - found["jet2_phi"]))
    return found


def observables_of(jets: Jets, radius: float) -> dict[str, Floats]:
    """`VARIABLES` of jets (J,) that were found with a radius."""
    p = jets.momentum
    px, py, pz, energy = p.T
    pt = np.hypot(px, py)
    phi = np.arctan2(py, px)
    rapidity = np.arctanh(pz / energy)
    distance = np.hypot(jets.eta - rapidity[jets.owner], _wrapped(jets.phi - phi[jets.owner]))
    tau = n_subjettiness(jets, radius)
    return {
        "tau_1": tau[:, 0],
        "tau_2": tau[:, 1],
        "girth": jets.sum(jets.pt * distance) / pt,
        "two_point_moment": two_point_moment(jets) / pt**2,
        "pt": pt,
        # Towers are massless, so a jet of one tower has none; rounding must not make it imaginary.
        "mass": np.sqrt(np.maximum(energy**2 - pt**2 - pz**2, 0.0)),
        "eta": np.arcsinh(pz / pt),
        "phi": phi,
    }


def two_point_moment(jets: Jets, beta: float = BETA) -> Floats:
    """Sum over ordered pairs of towers of p_i p_j r_ij^beta (J,), MeV^2."""
    counts = np.diff(jets.offset)
    first = np.repeat(np.arange(len(jets.pt)), counts[jets.owner])
    begin = np.cumsum(counts[jets.owner]) - counts[jets.owner]
    second = np.arange(len(first)) - begin[first] + jets.offset[jets.owner[first]]
    distance = np.hypot(jets.eta[first] - jets.eta[second], _wrapped(jets.phi[first] - jets.phi[second]))
    terms = jets.pt[first] * jets.pt[second] * distance**beta
    return np.bincount(jets.owner[first], weights=terms, minlength=len(jets)).astype(np.float64)


def n_subjettiness(jets: Jets, radius: float, numbers: tuple[int, ...] = (1, 2)) -> Floats:
    """tau_N (J, len(numbers)) by FastJet; 0 where a jet has no more towers than axes."""
    from ..extras import awkward, fastjet

    if not len(jets):
        return np.zeros((0, len(numbers)))
    ak, fj = awkward(), fastjet()
    clusters = fj.ClusterSequence(jets.particles(), fj.JetDefinition(fj.kt_algorithm, radius))
    tau = clusters.njettiness(njets=list(numbers), beta=1.0, R0=radius)
    return np.asarray(ak.to_numpy(tau), dtype=np.float64).reshape(len(jets), len(numbers))


def _wrapped(angle: Floats) -> Floats:
    """Angles in -pi to pi."""
    wrapped: Floats = (angle + np.pi) % (2 * np.pi) - np.pi
    return wrapped
