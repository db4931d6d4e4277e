"""Classifiers on images: full images of one half of the events against generated ones of the other half.

With the same events in both classes a classifier would know a test image's event from its training.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ...crew import HERE, Crew
from ..classifier import Separation, separate
from ..comparison import Effort
from .sample import MIN_IMAGES, ImageSample
from .variables import Floats, patches

VIEWS: dict[str, tuple[str, str]] = {
    "high": ("variables and sums", "sees all variables and sums in rings of eta"),
    "low": ("towers", "sees 11 x 11 towers around the {side} image's brightest one"),
    "pair": (
        "variables given the fast image's",
        "sees the variables of the image and of the fast one it belongs to",
    ),
}
"""What classifiers see of an image: label and one sentence; the last only if there are fast images."""


@dataclass(frozen=True)
class ImageContest:
    """Which events of a full simulation classifiers are trained on, and how.

    Attributes:
        full: the full simulation's images.
        fast: the fast simulation's of the same events, if there are some.
        seed: of the halves, splits and trees.
        effort: trainings, and images of each sample at most.
        crew: who trains.
    """

    full: ImageSample
    fast: ImageSample | None
    seed: int
    effort: Effort
    crew: Crew = HERE

    @property
    def views(self) -> dict[str, tuple[str, str]]:
        """Those of `VIEWS` that there are; none if the events are too few for halves."""
        if len(self._halves[1]) < MIN_IMAGES:
            return {}
        side = "full" if self.fast is None else "fast"
        return {
            name: (label, note.format(side=side))
            for name, (label, note) in VIEWS.items()
            if name != "pair" or self.fast is not None
        }

    @property
    def images(self) -> int:
        """Images of each sample."""
        return len(self._halves[1])

    def run(self, name: str, generated: ImageSample | None) -> Separation:
        """Train a classifier; without generated images for the floor: full images of the other half."""
        one, two = self._halves
        a = self._features(name, self.full)
        b, seed = (a, self.seed + 1) if generated is None else (self._features(name, generated), self.seed)
        return separate(a[one], b[two], seed=seed, repeats=self.effort.repeats, crew=self.crew)

    @property
    def _halves(self) -> list[npt.NDArray[np.int64]]:
        order = np.random.default_rng([self.seed, 3]).permutation(len(self.full))[: 2 * self.effort.showers]
        return np.array_split(order, 2)

    def _features(self, name: str, sample: ImageSample) -> Floats:
        if name == "low":  # whose brightest tower the patches stand around
            return patches(sample.images, (self.fast or self.full).images)
        if name == "pair":
            assert self.fast is not None
            return np.concatenate([sample.features, self.fast.features], axis=1)
        return sample.features
