"""Images of whole events and the jets in them."""

from .grid import CMS, EtaPhiGrid
from .image_file import ImageFile, ImageWriter
from .images import Images, paired

__all__ = ["CMS", "EtaPhiGrid", "ImageFile", "ImageWriter", "Images", "paired"]
