"""Export of trained networks. Needs TensorFlow; what it exports needs nothing of ours."""

from convzoo.serving.saved_model import export_saved_model

__all__ = ["export_saved_model"]
