"""Conversion of published weights of other implementations into our networks."""

from convzoo.porting.importer import SOURCES, Imported, import_weights
from convzoo.porting.segmentation import import_deeplabv3

__all__ = ["SOURCES", "Imported", "import_deeplabv3", "import_weights"]
