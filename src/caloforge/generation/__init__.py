"""Generation: drawing showers or images of events from a trained model, MeV in, MeV out."""

from .drawing import CHUNK
from .images import ImageSampler, generate_images
from .onnx_export import export
from .sampler import Sampler, generate

__all__ = ["CHUNK", "ImageSampler", "Sampler", "export", "generate", "generate_images"]
