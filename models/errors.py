"""What a user's mistake with networks raises."""


class ModelError(ValueError):
    """A network that cannot be had as asked: one line with what is wrong, the value, and what to do."""
