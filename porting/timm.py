"""Weights of timm, PyTorch Image Models (github.com/huggingface/pytorch-image-models).

Its `tf_efficientnet_*` are the same networks as ours. Its own `efficientnet_b0` to `_b7` differ in padding and epsilon,
which no weight file contains: import them with the overrides padding=symmetric and bn_epsilon=1e-5. Its MobileNets and
MnasNets have these settings, too.
"""

from convzoo.porting import readers
from convzoo.porting.frameworks import TORCH
from convzoo.porting.weight_source import LayerNameMap, WeightSource, conv_bn

_OUTER = {
    **conv_bn("conv_stem", "bn1", "stem"),
    **conv_bn("conv_head", "bn2", "head"),
    "classifier": "head_dense",
}
_SHARED = {"se.conv_reduce": "se_reduce", "se.conv_expand": "se_expand", "routing_fn": "routing"}
_EXPANDED = {
    **conv_bn("conv_pw", "bn1", "expand"),
    **conv_bn("conv_dw", "bn2", "depthwise"),
    **conv_bn("conv_pwl", "bn3", "project"),
    **_SHARED,
}


def _separable(pointwise):
    """A block without expansion; `pointwise` is our name of its 1x1 convolution."""
    return {**conv_bn("conv_dw", "bn1", "depthwise"), **conv_bn("conv_pw", "bn2", pointwise), **_SHARED}


_BLOCK_PATTERN = r"blocks\.(\d+)\.(\d+)"
_MBCONV = LayerNameMap(_OUTER, _BLOCK_PATTERN, (("conv_pwl", _EXPANDED), ("", _separable("project"))))

# torchvision uses the same names.
_RESNET_BLOCK = {
    **conv_bn("conv1", "bn1", "1"),
    **conv_bn("conv2", "bn2", "2"),
    **conv_bn("conv3", "bn3", "3"),
    **conv_bn("downsample.0", "downsample.1", "shortcut"),
}
RESNET = LayerNameMap(
    {**conv_bn("conv1", "bn1", "stem"), "fc": "head_dense"}, r"layer(\d+)\.(\d+)", (("", _RESNET_BLOCK),)
)


# How PyTorch pads and normalizes by default.
PYTORCH_NUMERICS = {"padding": "symmetric", "bn_epsilon": 1e-5}


def _assumption(name, overrides):
    if not name.startswith("efficientnet") or {"padding", "bn_epsilon"} & set(overrides):
        return ""
    return (
        f"assuming timm's tf_{name}, which the file does not say; timm's own efficientnet_* need "
        "--override=padding=symmetric --override=bn_epsilon=1e-5"
    )


SOURCE = WeightSource(
    title="timm",
    read=readers.read,
    framework=TORCH,
    layer_names={
        "efficientnet": _MBCONV,
        "mobilenet_v1": LayerNameMap(_OUTER, _BLOCK_PATTERN, (("", _separable("pointwise")),)),
        "mobilenet_v2": _MBCONV,
        "mnasnet": _MBCONV,
        "resnet": RESNET,
    },
    required_overrides=lambda name: PYTORCH_NUMERICS if name.startswith(("mobilenet", "mnasnet")) else {},
    assumption=_assumption,
)
