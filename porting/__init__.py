"""Conversion of published weights of other implementations into our networks."""

from convzoo.porting.importer import SOURCES, Imported, import_weights

__all__ = ["SOURCES", "Imported", "import_weights"]
