"""MobileNetV2 (arXiv 1801.04381), CondConv-MobileNetV2 (arXiv 1904.04971, section 4.1) and DRConv-MobileNetV2.

DRConv (arXiv 2003.12243) names the network without its placement: here it is both point-wise convolutions of every
block, with one mask of the block's input, as in its authors' ShuffleNetV2.
"""

from convzoo.models.info import ModelInfo, Published, Reported
from convzoo.models.mbconv import mbconv_network
from convzoo.models.papers import CONDCONV, CONDCONV_TABLE_1, DRCONV
from convzoo.models.preprocessing import CIFAR10, IMAGENET
from convzoo.models.registry import register_model

BLOCKS = (
    "r1_k3_s11_e1_i32_o16",
    "r2_k3_s22_e6_i16_o24",
    "r3_k3_s22_e6_i24_o32",
    "r4_k3_s22_e6_i32_o64",
    "r3_k3_s11_e6_i64_o96",
    "r3_k3_s22_e6_i96_o160",
    "r1_k3_s11_e6_i160_o320",
)
# For pictures of 32x32, with the strides of IGCV3 and Seesaw-Net there: it ends at 8x8.
BLOCKS_CIFAR = (BLOCKS[0], BLOCKS[1].replace("s22", "s11"), *BLOCKS[2:5], BLOCKS[5].replace("s22", "s11"), BLOCKS[6])
_DEFAULTS = {
    "blocks": BLOCKS,
    "activation": "relu6",
    "narrow_head": False,
    "padding": "symmetric",
    "bn_momentum": 0.9,
    "bn_epsilon": 1e-5,
}

register_model(
    mbconv_network,
    ModelInfo(
        name="mobilenet_v2_x1_0",
        family="mobilenet_v2",
        paper="MobileNetV2: Inverted Residuals and Linear Bottlenecks, arXiv 1801.04381",
        params=3_504_872,
        madds=300_774_272,
        input_size=224,
        preprocessing=IMAGENET,
        reported=Reported(71.6, CONDCONV_TABLE_1),
        published=Published(None, 301e6, CONDCONV_TABLE_1),
    ),
    **_DEFAULTS,
)
register_model(
    mbconv_network,
    ModelInfo(
        name="mobilenet_v2_condconv_x1_0",
        family="mobilenet_v2",
        paper=CONDCONV,
        params=25_755_264,
        madds=326_192_512,
        input_size=224,
        preprocessing=IMAGENET,
        reported=Reported(74.6, CONDCONV_TABLE_1),
        published=Published(
            None,
            329e6,
            CONDCONV_TABLE_1,
            "the last 6 blocks and the classifier, as others describe the paper's network, would be 323 M; with the "
            "1x1 head convolution between them (conditional_head) it is nearer to what is printed",
        ),
    ),
    first_conditional_block=11,
    conditional_head=True,
    conditional_classifier=True,
    num_experts=8,
    **_DEFAULTS,
)
register_model(
    mbconv_network,
    ModelInfo(
        name="mobilenet_v2_drconv_x1_0",
        family="mobilenet_v2",
        paper=DRCONV,
        params=16_054_696,
        madds=418_735_744,
        input_size=224,
        preprocessing=IMAGENET,
    ),
    regions=8,
    **_DEFAULTS,
)
register_model(
    mbconv_network,
    ModelInfo(
        name="mobilenet_v2_x1_0_cifar",
        family="mobilenet_v2",
        paper="MobileNetV2: Inverted Residuals and Linear Bottlenecks, arXiv 1801.04381",
        params=2_236_682,
        madds=165_163_520,
        input_size=32,
        preprocessing=CIFAR10,
        num_classes=10,
    ),
    **{**_DEFAULTS, "blocks": BLOCKS_CIFAR},
    stem_strides=1,
    dropout_rate=0.5,
)
