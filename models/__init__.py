"""The networks and their registry. Keras 3 alone: runs on any of its backends."""

from convzoo.models import (  # noqa: F401  each registers its networks
    efficientnet,
    mnasnet,
    mobilenet_v1,
    mobilenet_v2,
    resnet,
    seesawnet,
    shufflenet_v2,
)
from convzoo.models.count import LayerCount, ModelCount, count
from convzoo.models.errors import ModelError
from convzoo.models.info import ModelInfo, Preprocessing, Published, Reported
from convzoo.models.lean import to_lean
from convzoo.models.regions import region_maps
from convzoo.models.registry import create_model, info, list_models, register_model
from convzoo.models.segmentation import create_segmenter
from convzoo.models.weights import load_weights, read_record, save_weights

__all__ = [
    "LayerCount",
    "ModelCount",
    "ModelError",
    "ModelInfo",
    "Preprocessing",
    "Published",
    "Reported",
    "count",
    "create_model",
    "create_segmenter",
    "info",
    "list_models",
    "load_weights",
    "read_record",
    "region_maps",
    "register_model",
    "save_weights",
    "to_lean",
]
