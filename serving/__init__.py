"""Export of trained networks. Needs TensorFlow; what it exports needs nothing of ours."""

from convzoo.serving.saved_model import ExportError, check_target, export_saved_model

__all__ = ["ExportError", "check_target", "export_saved_model"]
