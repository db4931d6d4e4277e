"""What can be seen to be wrong or unfair with the files of a comparison, in one sentence each."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..errors import CaloforgeError, CaloforgeWarning
from .classifier import MIN_SHOWERS
from .provenance import differences
from .sample import Sample

WANTED_SHOWERS = 1000
EMPTY_SHARE = 0.01  # of showers without energy that is worth a word


def warn(notes: list[str], sentences: Sequence[str]) -> None:
    """Note sentences for the report, and warn with them."""
    for sentence in sentences:
        notes.append(sentence)
        warnings.warn(sentence, CaloforgeWarning, stacklevel=3)


def check_files(paths: Sequence[str | Path], limit: int | None) -> list[str]:
    """See before anything long is done whether files can be compared with the first of them.

    Returns:
        Sentences to warn with.

    Raises:
        CaloforgeError: if one is no valid shower file, holds too few showers, or is of another detector than the first.
    """
    from ..shower_file import ShowerFile

    found = []
    with ShowerFile(paths[0]) as first:
        detector = first.detector
    for path in paths:
        with ShowerFile(path) as file:
            n = min(len(file), limit or len(file))
            if n < MIN_SHOWERS:
                raise CaloforgeError(
                    f"'{path}' holds {n} showers; an evaluation needs {MIN_SHOWERS}, better {WANTED_SHOWERS} or more."
                )
            if n < WANTED_SHOWERS:
                found.append(
                    f"only {n} showers of '{file.path.name}' are used; errors are large and floors high under "
                    f"{WANTED_SHOWERS}."
                )
            if not detector.same_voxels(file.detector):
                raise CaloforgeError(
                    f"'{paths[0]}' is of detector '{detector.name}' with {detector.n_voxels} voxels, '{path}' of "
                    f"'{file.detector.name}' with {file.detector.n_voxels} voxels of other size or place; compare "
                    "samples of one detector."
                )
    return found


def doubts(reference: Sample, generated: Sample) -> list[str]:
    """What makes a comparison of two samples unfair: other particles, copies, empty showers; one sentence each."""
    return [*differences(reference, generated), *_copies(reference, generated), *_empty(reference, generated)]


def _copies(reference: Sample, generated: Sample) -> list[str]:
    name, n = generated.path.name, len(generated)
    if reference.content == generated.content:
        return [f"'{reference.path.name}' and '{name}' are the same file: nothing can differ, and nothing is learnt."]
    filled = generated.marks[generated.values["n_hits"] > 0]
    copies = int(np.isin(filled, reference.marks).sum())
    if copies:
        return [
            f"{copies} of the {n} showers in '{name}' are copies of reference showers, equal in every voxel; a copied "
            "shower says nothing about a generator, and all numbers look better than they are."
        ]
    repeated = len(filled) - len(np.unique(filled))
    if repeated:
        return [
            f"{repeated} of the {n} showers in '{name}' repeat another of its showers in every voxel; errors are "
            "larger than stated."
        ]
    return []


def _empty(reference: Sample, generated: Sample) -> list[str]:
    found = []
    for sample in (reference, generated):
        empty = int((sample.values["n_hits"] == 0).sum())
        if empty > EMPTY_SHARE * len(sample):
            found.append(
                f"{empty} of the {len(sample)} showers in '{sample.path.name}' hold no energy; where they have no "
                "value, a centre for example, they count as a bin of their own."
            )
    return found
