"""Weights of classifiers in the backbones of segmenters, detectors and embedders."""

import keras

from convzoo.errors import ModelError
from convzoo.models.registry import create_model
from convzoo.models.weights import EMBEDDER, HEAD_PREFIXES, head_prefix, read_metadata


def load_backbone(model: keras.Model, path: str) -> list[str]:
    """Loads a `.weights.h5` file into the backbone of a segmenter, detector or embedder.

    It loads all of it, or nothing when an error is raised.

    Returns:
        Paths of the weights that were not loaded: those of the layers after the backbone.

    Raises:
        ModelError: The file has no metadata, belongs to another network, or cannot be read.

    Example:
        >>> from convzoo import models
        >>> models.save_weights(models.create_model("mobilenet_v1_x0_25", 10, (64, 64, 3)), "net.weights.h5")
        >>> segmenter = models.create_segmenter("mobilenet_v1_x0_25", 21, (64, 64, 3), filters=8)
        >>> load_backbone(segmenter, "net.weights.h5")[0]
        'segment_pyramid_rate6_depthwise_conv/kernel'
    """
    prefix = head_prefix(model)
    name = next(model.name.removesuffix(suffix) for suffix in HEAD_PREFIXES if model.name.endswith(suffix))
    if not (metadata := read_metadata(path, name)):
        raise ModelError(f"weights {path!r} have no metadata that names their network; write them with save_weights")
    backbone = create_model(name, None, model.input_shape[1:], path, features=True)
    target = {weight.path: weight for weight in model.weights if not weight.path.startswith(prefix)}
    # An embedder also has the convolution between the last block and the pooling.
    features = {key: x for key, x in backbone.output.items() if key != "head" or model.name.endswith(EMBEDDER)}
    stored = {weight.path: weight for weight in keras.Model(backbone.input, features).weights}
    if {path: weight.shape for path, weight in target.items()} != {path: w.shape for path, w in stored.items()}:
        raise ModelError(
            f"weights {path!r} have other layers than the backbone of {model.name!r} as built here; create it with the "
            f"overrides of the file, {metadata['overrides']}"
        )
    for weight_path, weight in target.items():
        weight.assign(stored[weight_path].value)
    return [weight.path for weight in model.weights if weight.path.startswith(prefix)]
