"""What a user's mistake with other people's weights raises."""

from convzoo.models import ModelError


class PortingError(ModelError):
    """Weights that cannot be imported: one line with what is wrong, the value, and what to do."""
