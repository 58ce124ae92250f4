"""Export of trained networks. The exported models need TensorFlow only, neither convzoo nor Keras."""

from convzoo.serving.saved_model import check_output_folder, export_saved_model

__all__ = ["check_output_folder", "export_saved_model"]
