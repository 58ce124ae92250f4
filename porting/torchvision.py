"""Weights of torchvision (github.com/pytorch/vision)."""

from convzoo.porting import readers
from convzoo.porting.base import Source
from convzoo.porting.layouts import TORCH
from convzoo.porting.naming import Naming
from convzoo.porting.timm import RESNET


def _conv_bn(theirs, ours):
    """A convolution and its normalisation, which torchvision numbers within one module."""
    return {f"{theirs}.0": f"{ours}_conv", f"{theirs}.1": f"{ours}_bn"}


def _squeeze(theirs):
    return {f"{theirs}.fc1": "se_reduce", f"{theirs}.fc2": "se_expand"}


_STEM, _CLASSIFIER = _conv_bn("features.0", "stem"), {"classifier.1": "head_dense"}

_MOBILENET_V2 = Naming(
    {**_STEM, **_conv_bn("features.18", "head"), **_CLASSIFIER},
    r"features\.(\d+)\.conv",
    (
        (
            "3",
            {
                **_conv_bn("0", "expand"),
                **_conv_bn("1", "depthwise"),
                "2": "project_conv",
                "3": "project_bn",
            },
        ),
        ("", {**_conv_bn("0", "depthwise"), "1": "project_conv", "2": "project_bn"}),
    ),
)

_EFFICIENTNET = Naming(
    {**_STEM, **_conv_bn("features.8", "head"), **_CLASSIFIER},
    r"features\.(\d+)\.(\d+)\.block",
    (
        (
            "3.0",
            {
                **_conv_bn("0", "expand"),
                **_conv_bn("1", "depthwise"),
                **_squeeze("2"),
                **_conv_bn("3", "project"),
            },
        ),
        ("", {**_conv_bn("0", "depthwise"), **_squeeze("1"), **_conv_bn("2", "project")}),
    ),
)

# Between a convolution's normalisation and the next convolution lies a ReLU, except after a depthwise one.
_SHUFFLENET_V2 = Naming(
    {**_conv_bn("conv1", "stem"), **_conv_bn("conv5", "head"), "fc": "head_dense"},
    r"stage(\d+)\.(\d+)",
    (
        (
            "",
            {
                "branch1.0": "left_depthwise_conv",
                "branch1.1": "left_depthwise_bn",
                "branch1.2": "left_project_conv",
                "branch1.3": "left_project_bn",
                "branch2.0": "right_expand_conv",
                "branch2.1": "right_expand_bn",
                "branch2.3": "right_depthwise_conv",
                "branch2.4": "right_depthwise_bn",
                "branch2.5": "right_project_conv",
                "branch2.6": "right_project_bn",
            },
        ),
    ),
)

# B5 to B7 keep the published epsilon; the smaller ones have PyTorch's.
_PUBLISHED_EPSILON = ("efficientnet_b5", "efficientnet_b6", "efficientnet_b7")


def _implied(name):
    if name.startswith("efficientnet"):
        return {"padding": "symmetric", "bn_epsilon": 1e-3 if name in _PUBLISHED_EPSILON else 1e-5}
    if name.startswith("shufflenet_v2"):
        return {"layout": "torchvision"}
    return {}


SOURCE = Source(
    title="torchvision",
    read=readers.read,
    layout=TORCH,
    namings={
        "efficientnet": _EFFICIENTNET,
        "mobilenet_v2": _MOBILENET_V2,
        "resnet": RESNET,
        "shufflenet_v2": _SHUFFLENET_V2,
    },
    implied=_implied,
)
