"""One function per optional import, each naming the command that installs what is missing."""

from __future__ import annotations

import importlib
import importlib.util
from types import ModuleType

from .errors import CaloforgeError


def _optional(module: str, extra: str, purpose: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ImportError:
        raise CaloforgeError(
            f"{purpose} needs '{module}', which is not installed; run `pip install 'caloforge[{extra}]'`."
        ) from None


def xraylib() -> ModuleType:
    """Photoelectric cross sections, for the built-in physics tables."""
    return _optional("xraylib", "simulation", "computing physics tables")


def geant4() -> ModuleType:
    """Geant4. Its environment must be set before the first call: see `caloforge.simulation.physics_tables`."""
    return _optional("geant4_pybind", "simulation", "simulating showers")


def require_geant4() -> None:
    """Fail early, without importing it, if Geant4 is not installed."""
    if importlib.util.find_spec("geant4_pybind") is None:
        geant4()


def pythia() -> ModuleType:
    """Pythia 8, for proton collisions."""
    return _optional("pythia8mc", "jets", "simulating events")


def require_pythia() -> None:
    """Fail early, without importing it, if Pythia is not installed."""
    if importlib.util.find_spec("pythia8mc") is None:
        pythia()


def pyhepmc() -> ModuleType:
    """HepMC files."""
    return _optional("pyhepmc", "jets", "reading HepMC files")


def uproot() -> ModuleType:
    """ROOT files."""
    return _optional("uproot", "jets", "reading ROOT files")


def awkward() -> ModuleType:
    """Lists of lists, as FastJet takes them."""
    return _optional("awkward", "jets", "clustering jets")


def fastjet() -> ModuleType:
    """FastJet, which must not print its banner among our results; papers that use it cite arXiv 1111.6097."""
    module = _optional("fastjet", "jets", "clustering jets")
    module._swig.ClusterSequence.set_fastjet_banner_stream(None)
    return module


def dask() -> ModuleType:
    """Dask's settings, for clusters."""
    return _optional("dask", "distributed", "sharing work out over a cluster")


def distributed() -> ModuleType:
    """Dask distributed: the client of a cluster's scheduler."""
    return _optional("distributed", "distributed", "sharing work out over a cluster")


def onnx() -> ModuleType:
    """ONNX files; torch writes them with onnxscript, which is asked for too."""
    _optional("onnxscript", "onnx", "exporting a model")
    return _optional("onnx", "onnx", "exporting a model")


def onnxruntime() -> ModuleType:
    """ONNX Runtime."""
    return _optional("onnxruntime", "onnx", "running ONNX models")


def has_onnxruntime() -> bool:
    """Whether models can be exported and run by ONNX Runtime, found out without importing anything."""
    return all(importlib.util.find_spec(name) for name in ("onnx", "onnxscript", "onnxruntime"))


def numba() -> ModuleType:
    """Numba, which compiles loops."""
    return _optional("numba", "fast", "the backend 'numba'")


def has_numba() -> bool:
    """Whether loops can be compiled, found out without importing anything."""
    return importlib.util.find_spec("numba") is not None
