"""The order in which training sees showers, and the thread that makes batches ahead of time.

Which showers are in batch n depends on the seed and n alone, not on the workers, nor on when training was stopped and
resumed.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..transforms import Transform

Rows = npt.NDArray[np.int64]


class Example(NamedTuple):
    """A batch without its source of randomness: showers (B, L, Y, X), conditions (B, C), weights (B,)."""

    showers: Tensor
    condition: Tensor
    weight: Tensor


class Source(Protocol):
    """Where training takes its showers from, transformed and ready for the model."""

    def __len__(self) -> int: ...

    def take(self, rows: Rows) -> Example:
        """The showers ``rows``, on the device on which the model is trained."""


@dataclass(frozen=True)
class TensorSource:
    """Showers (N, L, Y, X), conditions (N, C) and weights (N,) held as tensors: toys and small samples."""

    showers: Tensor
    condition: Tensor
    weight: Tensor | None = None

    def __len__(self) -> int:
        return len(self.showers)

    def take(self, rows: Rows) -> Example:
        """The showers ``rows``."""
        which = torch.from_numpy(rows)
        weight = torch.ones(len(rows)) if self.weight is None else self.weight[which]
        device = self.showers.device
        return Example(self.showers[which].to(device), self.condition[which].to(device), weight.to(device))

    def to(self, device: torch.device) -> TensorSource:
        """The same showers on another device."""
        weight = None if self.weight is None else self.weight.to(device)
        return replace(self, showers=self.showers.to(device), condition=self.condition.to(device), weight=weight)


class Dataset(Protocol):
    """Showers with their conditions, or pairs of images, held as they are in files."""

    def __len__(self) -> int: ...

    def batch(self, which: Rows) -> tuple[Tensor, Tensor, Tensor]:
        """Showers (B, ...), conditions (B, ...) and what transforms need beside (B,)."""


class ShowerSource:
    """Showers held sparse in memory; a batch is made dense and transformed when it is taken.

    Args:
        data: showers with their conditions, or pairs of images.
        shower_transform: fitted, on ``device``.
        condition_transform: fitted, on ``device``.
        device: where batches are put, before they are transformed.
        rows: which showers of ``data`` belong to this source; all if not given.
        weight: importance (N,) of the showers of this source, mean one.
    """

    def __init__(
        self,
        data: Dataset,
        shower_transform: Transform,
        condition_transform: Transform,
        device: torch.device,
        rows: Rows | None = None,
        weight: Tensor | None = None,
    ) -> None:
        self.data = data
        self.shower_transform = shower_transform
        self.condition_transform = condition_transform
        self.device = device
        self.rows = np.arange(len(data)) if rows is None else rows
        self.weight = weight

    def __len__(self) -> int:
        return len(self.rows)

    @torch.no_grad()
    def take(self, rows: Rows) -> Example:
        """The showers ``rows`` of this source, transformed."""
        voxels, condition, energy = (part.to(self.device) for part in self.data.batch(self.rows[rows]))
        weight = torch.ones(len(rows)) if self.weight is None else self.weight[torch.from_numpy(rows)]
        seen = self.condition_transform(condition, energy).flatten(1)
        return Example(self.shower_transform(voxels, energy), seen, weight.to(self.device))


class BatchOrder:
    """Says which showers are in batch n: a new permutation each epoch, the incomplete last batch left out."""

    def __init__(self, n_showers: int, batch_size: int, seed: int) -> None:
        self.n_showers = n_showers
        self.batch_size = batch_size
        self.seed = seed
        self.per_epoch = n_showers // batch_size
        self._epoch = -1
        self._permutation: Rows = np.empty(0, np.int64)

    def rows(self, number: int) -> Rows:
        """Numbers (batch_size,) of the showers in batch ``number``, counted from the start of the training."""
        epoch, place = divmod(number, self.per_epoch)
        if epoch != self._epoch:
            self._permutation = np.random.default_rng([self.seed, epoch]).permutation(self.n_showers)
            self._epoch = epoch
        return self._permutation[place * self.batch_size : (place + 1) * self.batch_size]


class Prefetcher:
    """Takes batches ``start`` to ``stop`` in a background thread, a few ahead of the training.

    Attributes:
        waited: seconds the training has waited for batches so far.
    """

    def __init__(
        self, source: Source, order: BatchOrder, start: int, stop: int, part: slice = slice(None), ahead: int = 4
    ) -> None:
        self.waited = 0.0
        self._source, self._order, self._part = source, order, part
        self._numbers = range(start, stop)
        self._ready: queue.Queue[Example | BaseException] = queue.Queue(ahead)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._work, name="caloforge-batches", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        while self._thread.is_alive():
            for _ready in self._drain():
                pass
            self._thread.join(0.01)

    def next(self) -> Example:
        """The next batch.

        Raises:
            Exception: whatever went wrong while it was made.
        """
        began = time.perf_counter()
        ready: Example | BaseException = self._ready.get()
        self.waited += time.perf_counter() - began
        if isinstance(ready, BaseException):
            raise ready
        return ready

    def _work(self) -> None:
        try:
            for number in self._numbers:
                if not self._put(self._source.take(self._order.rows(number)[self._part])):
                    return
        except BaseException as error:
            self._put(error)

    def _put(self, item: Example | BaseException) -> bool:
        while not self._stopped.is_set():
            try:
                self._ready.put(item, timeout=0.1)
            except queue.Full:
                continue
            return True
        return False

    def _drain(self) -> Iterator[Example | BaseException]:
        while True:
            try:
                yield self._ready.get_nowait()
            except queue.Empty:
                return
