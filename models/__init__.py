"""Networks and their registry. They need Keras 3 and run on any of its backends."""

from convzoo.models import (  # noqa: F401  imported to register their networks
    efficientnet,
    face_networks,
    mnasnet,
    mobilenet_v1,
    mobilenet_v2,
    resnet,
    seesawnet,
    shufflenet_v2,
)
from convzoo.models.conversion import convert
from convzoo.models.count import LayerCount, ModelCount, count
from convzoo.models.detection import anchors, create_detector
from convzoo.models.detector_info import DetectorInfo, detector_info, list_detectors
from convzoo.models.embedding import create_embedder
from convzoo.models.experts import expert_similarity, routing_weights
from convzoo.models.info import ModelInfo, Preprocessing, Published, Reported
from convzoo.models.operators import CondConv, DRConv, Lean, Operator, Static, UnevenGroups
from convzoo.models.region_masks import region_maps
from convzoo.models.registry import create_model, info, list_models, register_model
from convzoo.models.segmentation import create_segmenter
from convzoo.models.weights import load_weights, read_metadata, save_weights

__all__ = [
    "CondConv",
    "DRConv",
    "DetectorInfo",
    "LayerCount",
    "Lean",
    "ModelCount",
    "ModelInfo",
    "Operator",
    "Preprocessing",
    "Published",
    "Reported",
    "Static",
    "UnevenGroups",
    "anchors",
    "convert",
    "count",
    "create_detector",
    "create_embedder",
    "create_model",
    "create_segmenter",
    "detector_info",
    "expert_similarity",
    "info",
    "list_detectors",
    "list_models",
    "load_weights",
    "read_metadata",
    "region_maps",
    "register_model",
    "routing_weights",
    "save_weights",
]
