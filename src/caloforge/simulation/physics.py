"""Which physics Geant4 runs with: electromagnetic showers alone, or hadrons as well.

Electrons, positrons and photons need Geant4's standard electromagnetic physics and nothing else, as long as nobody
asks what few nuclear reactions photons make. Hadrons and muons need the hadronic list, FTFP_BERT: Fritiof strings
above some GeV, Bertini's cascade below (J. Allison et al., NIM A 835 (2016) 186). A detector that is there to compare
hadrons with electrons asks for the hadronic list in its file, so that both are made by one physics.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ..detectors import Detector

ELECTROMAGNETIC = "G4EmStandardPhysics_option1"
"""The electromagnetic physics of either list; CMS uses its like in production."""

HADRONIC = f"FTFP_BERT with {ELECTROMAGNETIC}"
"""The list for hadrons: what Geant4 calls FTFP_BERT_EMV."""

_LISTS = {
    ELECTROMAGNETIC: (ELECTROMAGNETIC,),
    HADRONIC: (
        ELECTROMAGNETIC,
        "G4EmExtraPhysics",
        "G4DecayPhysics",
        "G4HadronElasticPhysics",
        "G4HadronPhysicsFTFP_BERT",
        "G4StoppingPhysics",
        "G4IonPhysics",
        "G4NeutronTrackingCut",
    ),
}

_SHOWERING = (22, 11, -11)  # what the electromagnetic physics alone can do


def choose_physics(detector: Detector, pdg: npt.NDArray[np.integer[Any]]) -> str:
    """Name of the physics list for incident particles of these PDG codes: one for all showers of a request."""
    hadronic = detector.physics == "FTFP_BERT" or not np.isin(pdg, _SHOWERING).all()
    return HADRONIC if hadronic else ELECTROMAGNETIC


def physics_list(g4: Any, name: str, gate: float | None) -> Any:
    """Build a physics list.

    Args:
        g4: the Geant4 module.
        name: from `choose_physics`.
        gate: the read-out's time gate in ns. Neutrons are not followed after it: what they do then is not read out.
    """

    class Physics(g4.G4VModularPhysicsList):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.parts = [getattr(g4, part)() for part in _LISTS[name]]
            if gate is not None and name == HADRONIC:
                self.parts[-1].SetTimeLimit(gate * g4.ns)
            for part in self.parts:
                self.RegisterPhysics(part)

    return Physics()


def set_up(g4: Any, name: str, range_cut: float) -> None:
    """Give the commands that must come before the run manager is initialised."""
    interface = g4.G4UImanager.GetUIpointer()
    # Without atomic data files there is no fluorescence; its effect is far below a voxel.
    interface.ApplyCommand("/process/em/fluo false")
    interface.ApplyCommand("/process/em/verbose 0")
    if name == HADRONIC:
        interface.ApplyCommand("/process/had/verbose 0")
        # The tables of photonuclear reactions are not needed: a parametrisation stands in for them.
        interface.ApplyCommand("/physics_lists/em/UseGammaNuclearXS false")
    interface.ApplyCommand(f"/run/setCut {range_cut} mm")
    g4.G4EmParameters.Instance().SetLivermoreDataDir("livermore")
