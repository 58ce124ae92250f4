"""Weights of keras.applications, in the `.h5` files that Keras downloads, and in models that were saved as `.h5`."""

import os
import re

import h5py
import numpy as np

from convzoo.errors import ModelError, first_line
from convzoo.porting.frameworks import TENSORFLOW
from convzoo.porting.readers import as_float32
from convzoo.porting.weight_source import LayerNameMap, WeightSource, conv_bn

_SUFFIXES = (".h5", ".hdf5")
# Rescaling and normalization of the images, which are part of the EfficientNets there.
_PREPROCESSING = ("normalization", "rescaling")


def read(path: str, ema: bool = False):
    """Reads a `.h5` file with layers by name; see `WeightSource.read`.

    Args:
        path: A file of weights or a whole model. Files of Keras 3 that end in .weights.h5 have no names of layers.
        ema: Must be False.

    Returns:
        ({"LAYER.VARIABLE": float32 array}, number of ignored variables).

    Raises:
        ModelError: The file does not exist, is damaged, or has another format.

    Example:
        >>> read("nowhere.h5")
        Traceback (most recent call last):
        convzoo.errors.ModelError: checkpoint 'nowhere.h5' does not exist; check the path
    """
    if ema:
        raise ModelError(f"{path!r} has one set of weights and no moving averages; remove --ema")
    if not path.endswith(_SUFFIXES):
        raise ModelError(f"checkpoint {path!r} does not end in {' or '.join(_SUFFIXES)}; use such a file")
    if not os.path.isfile(path):
        raise ModelError(f"checkpoint {path!r} does not exist; check the path")
    try:
        with h5py.File(path, "r") as file:
            group = file.get("model_weights", file)
            if "layer_names" not in group.attrs:
                raise ModelError(
                    f"{path!r} has no names of layers; use the file that Keras downloads, or save the model as .h5"
                )
            arrays = {}
            for layer in map(_text, group.attrs["layer_names"]):
                for name in map(_text, group[layer].attrs["weight_names"]):
                    variable = name.rpartition("/")[2].partition(":")[0]
                    arrays[f"{layer}.{variable}"] = as_float32(np.asarray(group[layer][name]))
    except (OSError, KeyError, RuntimeError) as error:
        raise ModelError(f"{path!r} is damaged or not an HDF5 file of Keras ({first_line(error)})") from error
    weights = {name: value for name, value in arrays.items() if not name.startswith(_PREPROCESSING)}
    return weights, len(arrays) - len(weights)


def _text(value):
    return value.decode() if isinstance(value, bytes) else value


def _canonical(values):
    """Renames layers in blocks to "blocks.NUMBER[.NUMBER].LAYER", and gives every classifier a dense kernel."""
    renamed = {}
    for name, value in values.items():
        if name == "conv_preds.kernel" and value.ndim == 4:  # MobileNetV1's classifier is a 1x1 convolution
            value = value.reshape(value.shape[2:])
        for pattern, new_name in _BLOCKS:
            name = re.sub(pattern, new_name, name)
        renamed[name] = value
    return renamed


_BLOCKS = (
    (r"^conv_(dw|pw)_(\d+)", r"blocks.\2.\1"),  # MobileNetV1: conv_dw_1_bn
    (r"^expanded_conv_", "blocks.0."),  # MobileNetV2
    (r"^block_(\d+)_", r"blocks.\1."),
    # EfficientNet: block2a_expand_conv
    (r"^block(\d+)([a-z])_", lambda match: f"blocks.{match[1]}.{ord(match[2]) - ord('a')}."),
)
_MOBILENET_V1 = LayerNameMap(
    {**conv_bn("conv1", "conv1_bn", "stem"), "conv_preds": "head_dense"},
    r"blocks\.(\d+)",
    (("", {**conv_bn("dw", "dw_bn", "depthwise"), **conv_bn("pw", "pw_bn", "pointwise")}),),
)
_MOBILENET_V2 = LayerNameMap(
    {**conv_bn("Conv1", "bn_Conv1", "stem"), **conv_bn("Conv_1", "Conv_1_bn", "head"), "predictions": "head_dense"},
    r"blocks\.(\d+)",
    (
        (
            "",
            {
                **conv_bn("expand", "expand_BN", "expand"),
                **conv_bn("depthwise", "depthwise_BN", "depthwise"),
                **conv_bn("project", "project_BN", "project"),
            },
        ),
    ),
)
_EFFICIENTNET = LayerNameMap(
    {**conv_bn("stem_conv", "stem_bn", "stem"), **conv_bn("top_conv", "top_bn", "head"), "predictions": "head_dense"},
    r"blocks\.(\d+)\.(\d+)",
    (
        (
            "",
            {
                **conv_bn("expand_conv", "expand_bn", "expand"),
                **conv_bn("dwconv", "bn", "depthwise"),
                **conv_bn("project_conv", "project_bn", "project"),
                "se_reduce": "se_reduce",
                "se_expand": "se_expand",
            },
        ),
    ),
)

SOURCE = WeightSource(
    title="keras.applications",
    read=read,
    framework=TENSORFLOW,
    # Its ResNets have other strides, and biases in their convolutions.
    layer_names={"efficientnet": _EFFICIENTNET, "mobilenet_v1": _MOBILENET_V1, "mobilenet_v2": _MOBILENET_V2},
    split_variables=_canonical,
    preprocessing=lambda name: {"mean": (127.5,) * 3, "std": (127.5,) * 3} if name.startswith("mobilenet") else None,
)
