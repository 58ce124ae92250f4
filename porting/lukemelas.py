"""Weights of EfficientNet-PyTorch by lukemelas (github.com/lukemelas/EfficientNet-PyTorch), Lite networks included."""

from convzoo.porting import readers
from convzoo.porting.frameworks import TORCH
from convzoo.porting.weight_source import LayerNameMap, WeightSource, conv_bn

_BLOCK = {
    **conv_bn("_expand_conv", "_bn0", "expand"),
    **conv_bn("_depthwise_conv", "_bn1", "depthwise"),
    **conv_bn("_project_conv", "_bn2", "project"),
    "_se_reduce": "se_reduce",
    "_se_expand": "se_expand",
}
_EFFICIENTNET = LayerNameMap(
    {
        **conv_bn("_conv_stem", "_bn0", "stem"),
        **conv_bn("_conv_head", "_bn1", "head"),
        "_fc": "head_dense",
    },
    r"_blocks\.(\d+)",
    (("", _BLOCK),),
)

SOURCE = WeightSource(
    title="lukemelas's EfficientNet-PyTorch",
    read=readers.read,
    framework=TORCH,
    layer_names={"efficientnet": _EFFICIENTNET},
)
