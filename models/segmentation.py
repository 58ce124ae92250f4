"""Encoder and decoder for semantic segmentation on any network of the zoo (DeepLabv3+, arXiv 1802.02611)."""

import numbers
import os

import keras
from keras import layers

from convzoo.layers import BilinearResize
from convzoo.models.dilation import dilate, strides_of
from convzoo.models.errors import ModelError
from convzoo.models.parts import Parts
from convzoo.models.registry import create_model
from convzoo.models.weights import SEGMENTER, read_record

# The start of the names of all layers behind the backbone.
HEAD = "segment_"
# Of the pyramid's windows, at an output stride of 16; at 8 they are twice as wide.
ATROUS_RATES = (6, 12, 18)
_LOW_LEVEL_STRIDE = 4


def create_segmenter(
    backbone: str,
    num_classes: int,
    input_shape: tuple[int | None, int | None, int] | None = None,
    weights: str | os.PathLike | None = None,
    *,
    output_stride: int = 16,
    filters: int = 256,
    low_level_filters: int = 48,
    atrous_rates: tuple[int, ...] | None = None,
    head_dropout_rate: float = 0.1,
    **overrides,
) -> keras.Model:
    """Builds a network that gives every pixel scores of the classes.

    The backbone's strides beyond `output_stride` become dilation (`convzoo.models.dilation.dilate`). On its last map
    stands atrous spatial pyramid pooling: a 1x1, separable 3x3 convolutions of several dilations, and the map's
    average. The decoder brings that to a quarter of the picture's size, puts the backbone's own map of that size beside
    it through a 1x1, and mixes both in two separable 3x3 convolutions; its scores are interpolated to the picture.
    A backbone without a finer map, as one for small pictures, has no such step.

    Args:
        backbone: One of `list_models()`.
        num_classes: Scores of each pixel.
        input_shape: Height, width and channels; by default the backbone's. Height and width may be None.
        weights: A `.weights.h5` file of the backbone, as for `create_model`; its classifier is left out.
        output_stride: Pixels of the input between two positions of the backbone's last map, at most: 8, 16 or 32. A
            backbone for small pictures may be finer.
        filters: Channels of pyramid and decoder.
        low_level_filters: Channels of the 1x1 on the backbone's finer map.
        atrous_rates: Dilations of the pyramid; by default 6, 12 and 18 for a last map of stride 16, twice that at 8,
            half of it at 32.
        head_dropout_rate: Dropout after the pyramid.
        **overrides: Keywords of the backbone's builder.

    Returns:
        A `keras.Model` from float images [batch, height, width, channels] to float32 logits [batch, height, width,
        num_classes].

    Raises:
        ModelError: What `create_model` and `dilate` raise; sizes or rates below 1 or given twice; features or
            include_top among the overrides.
    """
    if atrous_rates is not None and len(set(atrous_rates)) < len(atrous_rates):
        raise ModelError(f"atrous_rates {tuple(atrous_rates)} have a number twice; give different ones")
    numbers_given = {"num_classes": num_classes, "filters": filters, "low_level_filters": low_level_filters}
    for what, value in (*numbers_given.items(), *(("atrous_rates", rate) for rate in atrous_rates or ())):
        if not isinstance(value, numbers.Integral) or value < 1:
            raise ModelError(f"{what} must be a whole number of at least 1, not {value!r}")
    if not 0 <= head_dropout_rate < 1:
        raise ModelError(f"head_dropout_rate must be from 0 up to 1, not {head_dropout_rate!r}")
    for key in ("features", "include_top"):
        if key in overrides:
            raise ModelError(f"{key} is no choice of a segmenter, which takes the backbone's maps; leave it out")
    encoder = dilate(create_model(backbone, None, input_shape, weights, features=True, **overrides), output_stride)
    parts = Parts("relu", "same", overrides.get("bn_momentum", 0.9), overrides.get("bn_epsilon", 1e-5))
    images, maps = encoder.input, dict(encoder.output)
    maps.pop("head")
    strides = strides_of(encoder)
    *finer, last = maps.values()
    if atrous_rates is None:
        atrous_rates = tuple(max(rate * 16 // strides[id(last)], 1) for rate in ATROUS_RATES)
    x = _pyramid(parts, last, filters, atrous_rates)
    if head_dropout_rate:
        x = layers.Dropout(head_dropout_rate, name=f"{HEAD}pyramid_dropout")(x)
    finer = [x for x in finer if strides[id(x)] <= _LOW_LEVEL_STRIDE and strides[id(x)] < strides[id(last)]]
    if finer:
        low = parts.norm(parts.conv(finer[-1], f"{HEAD}decoder_low_conv", low_level_filters), f"{HEAD}decoder_low")
        x = BilinearResize("channels_last", name=f"{HEAD}decoder_resize")(x, finer[-1])
        x = layers.Concatenate(name=f"{HEAD}decoder_concatenate")([x, low])
    for step in (0, 1):
        x = _separable(parts, x, f"{HEAD}decoder{step}", filters)
    # Scores in float32, as a classifier's: what follows them stays exact under mixed_bfloat16.
    x = layers.Conv2D(num_classes, 1, data_format="channels_last", dtype="float32", name=f"{HEAD}head_conv")(x)
    logits = BilinearResize("channels_last", dtype="float32", name=f"{HEAD}head_resize")(x, images)
    return keras.Model(images, logits, name=f"{backbone}{SEGMENTER}")


def load_backbone(model: keras.Model, path: str) -> list[str]:
    """Gives a segmenter's backbone the weights of a `.weights.h5` file, all of them or none.

    Returns:
        Paths of the weights that were left as they were: those behind the backbone.

    Raises:
        ModelError: The file does not tell of which network it is, is of another one, or cannot be read.
    """
    name = model.name.removesuffix(SEGMENTER)
    if not (record := read_record(path, name)):
        raise ModelError(f"weights {path!r} do not tell of which network they are; write them with save_weights")
    backbone = create_model(name, None, model.input_shape[1:], path, features=True)
    maps = {key: x for key, x in backbone.output.items() if key != "head"}
    ours = {weight.path: weight for weight in model.weights if not weight.path.startswith(HEAD)}
    theirs = {weight.path: weight for weight in keras.Model(backbone.input, maps).weights}
    if {name: weight.shape for name, weight in ours.items()} != {name: w.shape for name, w in theirs.items()}:
        raise ModelError(
            f"weights {path!r} have other layers than the backbone of {model.name!r} as built here; create it with the "
            f"overrides of the file, {record['overrides']}"
        )
    for name, weight in ours.items():
        weight.assign(theirs[name].value)
    return [weight.path for weight in model.weights if weight.path.startswith(HEAD)]


def is_segmenter(model: keras.Model) -> bool:
    """Whether `create_segmenter` made the model."""
    return model.name.endswith(SEGMENTER)


def _pyramid(parts, x, filters, rates):
    """Atrous spatial pyramid pooling."""
    branches = [parts.norm(parts.conv(x, f"{HEAD}pyramid_point_conv", filters), f"{HEAD}pyramid_point")]
    branches += [_separable(parts, x, f"{HEAD}pyramid_rate{rate}", filters, rate) for rate in rates]
    average = layers.GlobalAveragePooling2D("channels_last", keepdims=True, name=f"{HEAD}pyramid_pool")(x)
    average = parts.norm(parts.conv(average, f"{HEAD}pyramid_pool_conv", filters), f"{HEAD}pyramid_pool")
    branches.append(BilinearResize("channels_last", name=f"{HEAD}pyramid_pool_resize")(average, x))
    x = layers.Concatenate(name=f"{HEAD}pyramid_concatenate")(branches)
    return parts.norm(parts.conv(x, f"{HEAD}pyramid_project_conv", filters), f"{HEAD}pyramid_project")


def _separable(parts, x, name, filters, rate=1):
    """A depthwise 3x3 convolution and a 1x1, each normalised and activated."""
    x = parts.norm(parts.depthwise(x, f"{name}_depthwise_conv", 3, dilation_rate=rate), f"{name}_depthwise")
    return parts.norm(parts.conv(x, f"{name}_point_conv", filters), f"{name}_point")
