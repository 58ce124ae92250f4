"""Export of trained networks: SavedModels, which need TensorFlow only, and LiteRT, ONNX and Keras files."""

from convzoo.serving.export_file import check_quantization, export_model_file
from convzoo.serving.model_file import SUFFIXES, ModelFile, check_output_file, load_model_file
from convzoo.serving.parity import Parity
from convzoo.serving.sample import generated_images, sample_images
from convzoo.serving.saved_model import check_output_folder, export_saved_model

__all__ = [
    "SUFFIXES",
    "ModelFile",
    "Parity",
    "check_output_file",
    "check_output_folder",
    "check_quantization",
    "export_model_file",
    "export_saved_model",
    "generated_images",
    "load_model_file",
    "sample_images",
]
