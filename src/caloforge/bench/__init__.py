"""How fast generation is: every model beside Geant4 and beside what the machine can do, in one run."""

from .running import bench
from .table import bench_table, write_csv

__all__ = ["bench", "bench_table", "write_csv"]
