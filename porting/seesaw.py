"""Weights of the authors' PyTorch code for Seesaw-Net and its baseline IGCV3 (github.com/cvtower/SeesawNet_pytorch)."""

import re

import numpy as np

from convzoo.porting import readers
from convzoo.porting.frameworks import TORCH
from convzoo.porting.weight_source import LayerNameMap, WeightSource, conv_bn

_CLASSIFIERS = dict.fromkeys(("classifier", "classifier.0", "classifier.1"), "head_dense")
# The head follows the blocks, of which there are 32 or 17.
_HEADS = conv_bn("features.33.0", "features.33.1", "head") | conv_bn("features.18.0", "features.18.1", "head")

_UNEVEN_BLOCK = {
    "pwconv10.0": "expand_conv/{}_0",
    "pwconv20.0": "expand_conv/{}_1",
    "Permu2.0": "expand_bn",
    **conv_bn("dwconv.0", "dwconv.1", "depthwise"),
    "pwconv11.0": "project_conv/{}_0",
    "pwconv21.0": "project_conv/{}_1",
    "Permu4.0": "project_bn",
}
_EVEN_BLOCK = {
    "conv.0.0": "expand_conv/{}_0",
    "conv.0.1": "expand_conv/{}_1",
    "conv.1": "expand_bn",
    **conv_bn("conv.3", "conv.4", "depthwise"),
    "conv.6.0": "project_conv/{}_0",
    "conv.6.1": "project_conv/{}_1",
    "conv.7": "project_bn",
}
_SEESAWNET = LayerNameMap(
    {**conv_bn("features.0.0", "features.0.1", "stem"), **_HEADS, **_CLASSIFIERS},
    r"features\.(\d+)",
    (("pwconv10.0", _UNEVEN_BLOCK), ("", _EVEN_BLOCK)),
)


def _split_groups(values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Splits the grouped convolutions of even blocks into one variable per group."""
    split = {}
    for name, value in values.items():
        if re.fullmatch(r"features\.\d+\.conv\.[06]\.weight", name) and value.ndim == 4 and len(value) % 2 == 0:
            layer = name.removesuffix(".weight")
            split.update({f"{layer}.{group}.weight": half for group, half in enumerate(np.split(value, 2))})
        else:
            split[name] = value
    return split


SOURCE = WeightSource(
    title="the authors' Seesaw-Net code",
    read=readers.read,
    framework=TORCH,
    layer_names={"seesawnet": _SEESAWNET},
    split_variables=_split_groups,
    assumption=lambda name, overrides: (
        f"assuming the strides and shuffles of {name}, which the file does not contain; other networks have the same "
        "weight shapes"
    ),
)
