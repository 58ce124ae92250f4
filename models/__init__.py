"""The networks and their registry. Keras 3 alone: runs on any of its backends."""

from convzoo.models import efficientnet as _efficientnet  # noqa: F401  registers its networks
from convzoo.models.count import LayerCount, ModelCount, count
from convzoo.models.errors import ModelError
from convzoo.models.info import ModelInfo, Preprocessing, Reported
from convzoo.models.registry import create_model, info, list_models, register_model
from convzoo.models.weights import load_weights, read_record, save_weights

__all__ = [
    "LayerCount",
    "ModelCount",
    "ModelError",
    "ModelInfo",
    "Preprocessing",
    "Reported",
    "count",
    "create_model",
    "info",
    "list_models",
    "load_weights",
    "read_record",
    "register_model",
    "save_weights",
]
