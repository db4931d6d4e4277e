"""Generation: drawing showers from a trained model, MeV in, showers out."""

from .sampler import CHUNK, Sampler, generate

__all__ = ["CHUNK", "Sampler", "generate"]
