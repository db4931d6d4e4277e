"""Full simulation: Geant4 transport of particles through a detector."""
