"""Weights of the authors' PyTorch code for Seesaw-Net and its baseline IGCV3 (github.com/cvtower/SeesawNet_pytorch)."""

import re

import numpy as np

from convzoo.porting import readers
from convzoo.porting.base import Source
from convzoo.porting.layouts import TORCH
from convzoo.porting.naming import Naming

_CLASSIFIERS = dict.fromkeys(("classifier", "classifier.0", "classifier.1"), "head_dense")
# The head comes after the blocks, 32 of them or 17.
_HEADS = {f"features.{last}.{k}": ours for last in (33, 18) for k, ours in enumerate(("head_conv", "head_bn"))}

_UNEVEN = {
    "pwconv10.0": "expand_conv/{}_0",
    "pwconv20.0": "expand_conv/{}_1",
    "Permu2.0": "expand_bn",
    "dwconv.0": "depthwise_conv",
    "dwconv.1": "depthwise_bn",
    "pwconv11.0": "project_conv/{}_0",
    "pwconv21.0": "project_conv/{}_1",
    "Permu4.0": "project_bn",
}
_EVEN = {
    "conv.0.0": "expand_conv/{}_0",
    "conv.0.1": "expand_conv/{}_1",
    "conv.1": "expand_bn",
    "conv.3": "depthwise_conv",
    "conv.4": "depthwise_bn",
    "conv.6.0": "project_conv/{}_0",
    "conv.6.1": "project_conv/{}_1",
    "conv.7": "project_bn",
}
_SEESAWNET = Naming(
    {"features.0.0": "stem_conv", "features.0.1": "stem_bn", **_HEADS, **_CLASSIFIERS},
    r"features\.(\d+)",
    (("pwconv10.0", _UNEVEN), ("", _EVEN)),
)


def _divide(values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The grouped convolutions of even blocks as one variable a group, as ours are."""
    divided = {}
    for name, value in values.items():
        if re.fullmatch(r"features\.\d+\.conv\.[06]\.weight", name) and value.ndim == 4 and len(value) % 2 == 0:
            layer = name.removesuffix(".weight")
            divided.update({f"{layer}.{group}.weight": half for group, half in enumerate(np.split(value, 2))})
        else:
            divided[name] = value
    return divided


def _doubt(name, overrides):
    return f"taken for the strides and shuffles of {name}, which no file of weights tells: there are others like it"


SOURCE = Source(
    title="the authors' Seesaw-Net code",
    read=readers.read,
    layout=TORCH,
    namings={"seesawnet": _SEESAWNET},
    divide=_divide,
    doubt=_doubt,
)
