"""Networks that map images to embeddings, which are compared by their cosine."""

import numbers
import os
from typing import Any

import keras
from keras import layers

from convzoo.errors import ModelError
from convzoo.layers import CosineDense
from convzoo.models.backbone import load_backbone
from convzoo.models.registry import create_model
from convzoo.models.weights import EMBEDDER, HEAD_PREFIXES

# Prefix of the names of all layers after the backbone.
_PREFIX = HEAD_PREFIXES[EMBEDDER]


def create_embedder(
    backbone: str,
    num_classes: int,
    input_shape: tuple[int | None, int | None, int] | None = None,
    weights: str | os.PathLike | None = None,
    *,
    embedding_size: int | None = None,
    **overrides: Any,
) -> keras.Model:
    """Builds a network for verification: an embedding, and its cosine with the direction of each class.

    The embedding is the global average of the backbone's last feature map, which networks for faces have reduced to one
    position. With `embedding_size`, a linear layer with batch normalization follows. The classes are those of training;
    images of others are compared by the cosine of their embeddings.

    Args:
        backbone: One of `list_models()`.
        num_classes: Number of classes of training.
        input_shape: Height, width and channels; by default the backbone's.
        weights: A `.weights.h5` file of the backbone, as for `create_model`; its classifier is not loaded.
        embedding_size: Numbers of an embedding; None for the channels of the backbone's last feature map.
        **overrides: Keywords of the backbone's builder, and `operator`.

    Returns:
        A `keras.Model` from float images [batch, height, width, channels] to a dict of "embeddings", float32 [batch,
        embedding_size], and "cosines", float32 [batch, num_classes].

    Raises:
        ModelError: `create_model` fails, a number is not a positive integer, or the overrides contain features or
            include_top.

    Example:
        >>> from convzoo import models
        >>> model = models.create_embedder("mobile_facenet", num_classes=100)
        >>> {name: tensor.shape for name, tensor in model.output.items()}
        {'embeddings': (None, 128), 'cosines': (None, 100)}
    """
    for key, value in {"num_classes": num_classes, "embedding_size": embedding_size}.items():
        is_positive = isinstance(value, numbers.Integral) and not isinstance(value, bool) and int(value) >= 1
        if not is_positive and not (key == "embedding_size" and value is None):
            raise ModelError(f"{key} must be an integer of at least 1, not {value!r}")
    for key in ("features", "include_top"):
        if key in overrides:
            raise ModelError(f"{key} cannot be overridden in an embedder; remove it")
    features = create_model(backbone, None, input_shape, include_top=False, **overrides)
    x = layers.GlobalAveragePooling2D("channels_last", dtype="float32", name=f"{_PREFIX}pool")(features.output)
    if embedding_size is not None:
        x = layers.Dense(embedding_size, use_bias=False, dtype="float32", name=f"{_PREFIX}dense")(x)
        settings = {
            "momentum": overrides.get("bn_momentum", 0.9),
            "epsilon": overrides.get("bn_epsilon", 1e-5),
            "name": f"{_PREFIX}dense_bn",
        }
        x = layers.BatchNormalization(dtype="float32", **settings)(x)
    cosines = CosineDense(
        num_classes,
        kernel_initializer=keras.initializers.RandomNormal(stddev=0.01),
        dtype="float32",
        name=f"{_PREFIX}classes",
    )(x)
    model = keras.Model(features.input, {"embeddings": x, "cosines": cosines}, name=f"{backbone}{EMBEDDER}")
    if weights is not None:
        load_backbone(model, os.fspath(weights))
    return model
