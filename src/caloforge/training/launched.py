"""Trainings whose processes `torchrun` has started, on one machine or several."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import torch

from ..errors import CaloforgeError

_LOST = re.compile(r"gloo|nccl|peer|socket|store|timed? ?out", re.IGNORECASE)


@dataclass(frozen=True)
class Launch:
    """This process among those that torchrun started.

    Attributes:
        rank: its number; 0 writes the files.
        processes: how many there are.
        here: how many of them on this machine.
        note: folder that the processes of this machine share, for what only one of them should say.
    """

    rank: int
    processes: int
    here: int
    note: Path | None = None

    @classmethod
    def found(cls, environment: Mapping[str, str] = os.environ) -> Launch | None:
        """What torchrun says in the environment; None for a process that it did not start, or only one."""
        if "TORCHELASTIC_RUN_ID" not in environment:
            return None
        rank, processes, here = (int(environment[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE"))
        errors = environment.get("TORCHELASTIC_ERROR_FILE")
        # .../attempt_0/RANK/error.json
        return cls(rank, processes, here, Path(errors).parent.parent if errors else None) if processes > 1 else None

    @contextmanager
    def together(self) -> Iterator[None]:
        """Work as one of the processes; what goes wrong in all of them is told by one of each machine.

        Raises:
            CaloforgeError: as it was raised, or if another process died.
            SystemExit: if another process of this machine has told the same.
        """
        try:
            yield
        except CaloforgeError as error:
            self._tell(error)
            raise
        except KeyboardInterrupt as stop:
            if self.rank:  # all stop together; rank 0 has saved the state and says so
                raise SystemExit(130) from stop
            raise
        except RuntimeError as error:
            if not _LOST.search(str(error)):
                raise
            died = CaloforgeError(
                "another process of the training died; look at what it wrote, and start again with --resume."
            )
            self._tell(died)
            raise died from error
        finally:
            if torch.distributed.is_initialized():
                # The others may be gone already.
                with suppress(RuntimeError):
                    torch.distributed.destroy_process_group()

    def _tell(self, error: BaseException) -> None:
        """End this process silently if another one of this machine has said the same."""
        if self.note is None:
            return
        mark = self.note / f"said-{hashlib.sha256(str(error).encode()).hexdigest()[:16]}"
        try:
            mark.touch(exist_ok=False)
        except FileExistsError:
            raise SystemExit(2) from error
        except OSError:  # torchrun's folder is gone: better twice than never
            return
