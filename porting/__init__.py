"""Other people's weights into our networks."""

from convzoo.porting.errors import PortingError
from convzoo.porting.sources import SOURCES, Imported, import_weights

__all__ = ["SOURCES", "Imported", "PortingError", "import_weights"]
