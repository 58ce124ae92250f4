"""Weights of timm, the PyTorch Image Models (github.com/huggingface/pytorch-image-models).

Its `tf_efficientnet_*` are our EfficientNets as they are. Its own `efficientnet_b0` ... `_b7` differ in padding and
epsilon, which no file of weights tells: import them with the overrides padding=symmetric and bn_epsilon=1e-5.
"""

from convzoo.porting import readers
from convzoo.porting.base import Source
from convzoo.porting.layouts import TORCH
from convzoo.porting.naming import Naming

_ENDS = {
    "conv_stem": "stem_conv",
    "bn1": "stem_bn",
    "conv_head": "head_conv",
    "bn2": "head_bn",
    "classifier": "head_dense",
}
_SHARED = {"se.conv_reduce": "se_reduce", "se.conv_expand": "se_expand", "routing_fn": "routing"}
_EXPANDED = {
    "conv_pw": "expand_conv",
    "bn1": "expand_bn",
    "conv_dw": "depthwise_conv",
    "bn2": "depthwise_bn",
    "conv_pwl": "project_conv",
    "bn3": "project_bn",
    **_SHARED,
}


def _separable(second):
    """A block without expansion; its 1x1 convolution is our `second`."""
    return {
        "conv_dw": "depthwise_conv",
        "bn1": "depthwise_bn",
        "conv_pw": f"{second}_conv",
        "bn2": f"{second}_bn",
        **_SHARED,
    }


_BLOCK = r"blocks\.(\d+)\.(\d+)"
_MBCONV = Naming(_ENDS, _BLOCK, (("conv_pwl", _EXPANDED), ("", _separable("project"))))

# torchvision's names too.
RESNET = Naming(
    {"conv1": "stem_conv", "bn1": "stem_bn", "fc": "head_dense"},
    r"layer(\d+)\.(\d+)",
    (
        (
            "",
            {
                **{f"conv{k}": f"{k}_conv" for k in (1, 2, 3)},
                **{f"bn{k}": f"{k}_bn" for k in (1, 2, 3)},
                "downsample.0": "shortcut_conv",
                "downsample.1": "shortcut_bn",
            },
        ),
    ),
)


def _doubt(name, overrides):
    if not name.startswith("efficientnet") or {"padding", "bn_epsilon"} & set(overrides):
        return ""
    return (
        f"taken for a tf_{name} of timm, which no file of weights tells: timm's own efficientnet_* need "
        "--override=padding=symmetric --override=bn_epsilon=1e-5"
    )


SOURCE = Source(
    title="timm",
    read=readers.read,
    layout=TORCH,
    namings={
        "efficientnet": _MBCONV,
        "mobilenet_v1": Naming(_ENDS, _BLOCK, (("", _separable("pointwise")),)),
        "mobilenet_v2": _MBCONV,
        "mnasnet": _MBCONV,
        "resnet": RESNET,
    },
    doubt=_doubt,
)
