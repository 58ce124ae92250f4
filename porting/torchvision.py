"""Weights of torchvision (github.com/pytorch/vision)."""

from convzoo.porting import readers
from convzoo.porting.frameworks import TORCH
from convzoo.porting.timm import PYTORCH_NUMERICS, RESNET
from convzoo.porting.weight_source import LayerNameMap, WeightSource, conv_bn


def _conv_bn(theirs, ours):
    """A convolution and its normalization, which are 0 and 1 of one module."""
    return conv_bn(f"{theirs}.0", f"{theirs}.1", ours)


def _squeeze_excite(theirs):
    return {f"{theirs}.fc1": "se_reduce", f"{theirs}.fc2": "se_expand"}


_STEM, _CLASSIFIER = _conv_bn("features.0", "stem"), {"classifier.1": "head_dense"}

_MOBILENET_V2 = LayerNameMap(
    {**_STEM, **_conv_bn("features.18", "head"), **_CLASSIFIER},
    r"features\.(\d+)\.conv",
    (
        ("3", {**_conv_bn("0", "expand"), **_conv_bn("1", "depthwise"), **conv_bn("2", "3", "project")}),
        ("", {**_conv_bn("0", "depthwise"), **conv_bn("1", "2", "project")}),
    ),
)

_EXPANDED = {
    **_conv_bn("0", "expand"),
    **_conv_bn("1", "depthwise"),
    **_squeeze_excite("2"),
    **_conv_bn("3", "project"),
}
_EFFICIENTNET = LayerNameMap(
    {**_STEM, **_conv_bn("features.8", "head"), **_CLASSIFIER},
    r"features\.(\d+)\.(\d+)\.block",
    (
        ("3.0", _EXPANDED),
        ("", {**_conv_bn("0", "depthwise"), **_squeeze_excite("1"), **_conv_bn("2", "project")}),
    ),
)

# The missing numbers are ReLUs, which follow every normalization except the depthwise one's.
_SHUFFLENET_BLOCK = {
    **conv_bn("branch1.0", "branch1.1", "left_depthwise"),
    **conv_bn("branch1.2", "branch1.3", "left_project"),
    **conv_bn("branch2.0", "branch2.1", "right_expand"),
    **conv_bn("branch2.3", "branch2.4", "right_depthwise"),
    **conv_bn("branch2.5", "branch2.6", "right_project"),
}
_SHUFFLENET_V2 = LayerNameMap(
    {**_conv_bn("conv1", "stem"), **_conv_bn("conv5", "head"), "fc": "head_dense"},
    r"stage(\d+)\.(\d+)",
    (("", _SHUFFLENET_BLOCK),),
)


def _required_overrides(name):
    if name.startswith("efficientnet"):
        # B5 to B7 have the published epsilon, the smaller networks PyTorch's default.
        published = name in ("efficientnet_b5", "efficientnet_b6", "efficientnet_b7")
        return {**PYTORCH_NUMERICS, "bn_epsilon": 1e-3 if published else 1e-5}
    if name.startswith("mobilenet"):
        return PYTORCH_NUMERICS
    return {"layout": "torchvision"} if name.startswith("shufflenet_v2") else {}


SOURCE = WeightSource(
    title="torchvision",
    read=readers.read,
    framework=TORCH,
    layer_names={
        "efficientnet": _EFFICIENTNET,
        "mobilenet_v2": _MOBILENET_V2,
        "resnet": RESNET,
        "shufflenet_v2": _SHUFFLENET_V2,
    },
    required_overrides=_required_overrides,
)
