"""Weights of ShuffleNetV2 from the authors' PyTorch code for DRConv (github.com/megvii-research/DRConv).

Its generator is our "shared_bank". For other numbers of regions or base kernels than 8, set `regions` and `bank_size`
of the operator.
"""

from convzoo.porting import readers
from convzoo.porting.frameworks import TORCH
from convzoo.porting.weight_source import LayerNameMap, WeightSource, conv_bn


def _conv_bn(theirs, ours):
    return conv_bn(f"{theirs}.conv", f"{theirs}.bn", ours)


def _drconv_bn(theirs, ours):
    return {**_conv_bn(theirs, ours), f"{theirs}.conv.routing_fc": f"{ours}_conv/routing_{{}}"}


_BLOCK = {
    "masknet": "mask",
    **_drconv_bn("conva_right", "right_expand"),
    **_conv_bn("convb_right", "right_depthwise"),
    **_drconv_bn("convc_right", "right_project"),
    **_conv_bn("conva_left", "left_depthwise"),
    **_conv_bn("convb_left", "left_project"),
}
_SHUFFLENET_V2 = LayerNameMap(
    {**_conv_bn("conv_first", "stem"), **_conv_bn("conv_last", "head"), "classifier": "head_dense"},
    r"stage(\d+)_block(\d+)",
    (("", _BLOCK),),
)

SOURCE = WeightSource("the authors' DRConv code", readers.read, TORCH, {"shufflenet_v2": _SHUFFLENET_V2})
