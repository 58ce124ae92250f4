"""Weights of the authors' PyTorch code for DRConv (github.com/megvii-research/DRConv), its ShuffleNetV2.

Its generator is our "shared_bank". Other numbers of regions or base kernels than 8 are overrides, `regions` and
`bank_size`.
"""

from convzoo.porting import readers
from convzoo.porting.base import Source
from convzoo.porting.layouts import TORCH
from convzoo.porting.naming import Naming


def _conv_bn(theirs, ours):
    return {f"{theirs}.conv": f"{ours}_conv", f"{theirs}.bn": f"{ours}_bn"}


def _region_aware(theirs, ours):
    return {**_conv_bn(theirs, ours), f"{theirs}.conv.routing_fc": f"{ours}_conv/routing_{{}}"}


_SHUFFLENET_V2 = Naming(
    {**_conv_bn("conv_first", "stem"), **_conv_bn("conv_last", "head"), "classifier": "head_dense"},
    r"stage(\d+)_block(\d+)",
    (
        (
            "",
            {
                "masknet": "mask",
                **_region_aware("conva_right", "right_expand"),
                **_conv_bn("convb_right", "right_depthwise"),
                **_region_aware("convc_right", "right_project"),
                **_conv_bn("conva_left", "left_depthwise"),
                **_conv_bn("convb_left", "left_project"),
            },
        ),
    ),
)

SOURCE = Source(
    title="the authors' DRConv code", read=readers.read, layout=TORCH, namings={"shufflenet_v2": _SHUFFLENET_V2}
)
