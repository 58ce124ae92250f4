"""MobileNetV2 (arXiv 1801.04381), CondConv-MobileNetV2 (arXiv 1904.04971, section 4.1) and DRConv-MobileNetV2.

Padding and epsilon are TensorFlow's, in which the authors of MobileNet and CondConv trained; weights from PyTorch need
padding="symmetric" and bn_epsilon=1e-5. The network for CIFAR has PyTorch's: it is the baseline of Seesaw-Net.

The DRConv paper (arXiv 2003.12243) does not describe the placement in MobileNetV2. Here both point-wise convolutions of
every block are DRConvs with one mask per block, as in the authors' ShuffleNetV2.
"""

from convzoo.models.info import CIFAR, ModelInfo, Published, Reported
from convzoo.models.mbconv import mbconv_network
from convzoo.models.operators import CondConv, DRConv
from convzoo.models.papers import CONDCONV, CONDCONV_TABLE_1, DRCONV
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
# For 32x32 images, with the strides that IGCV3 and Seesaw-Net use there: the last feature map is 8x8.
BLOCKS_CIFAR = (BLOCKS[0], BLOCKS[1].replace("s22", "s11"), *BLOCKS[2:5], BLOCKS[5].replace("s22", "s11"), BLOCKS[6])
_PAPER = "MobileNetV2: Inverted Residuals and Linear Bottlenecks, arXiv 1801.04381"


def _register(name, paper, params, madds, info=None, **arguments):
    defaults = {
        "blocks": BLOCKS,
        "activation": "relu6",
        "narrow_head": False,
        "bn_momentum": 0.9,
    }
    info = ModelInfo(name, "mobilenet_v2", paper, params, madds, **(info or {}))
    register_model(mbconv_network, info, **{**defaults, **arguments})


def _table_1(top1, madds, note=""):
    return {"reported": Reported(top1, CONDCONV_TABLE_1), "published": Published(None, madds, CONDCONV_TABLE_1, note)}


_NOTE = (
    "the placement is inferred from the printed sizes: with all blocks but the first, the 1x1 head and the classifier "
    "conditional, it has 27.8 M parameters and 328.5 M multiply-adds; only the last 6 blocks with head and classifier, "
    "as others describe the network (first_block=11), would have 25.8 M and 326.2 M"
)
_register("mobilenet_v2_x1_0", _PAPER, 3_504_872, 300_774_272, _table_1(71.6, 301e6))
_register(
    "mobilenet_v2_condconv_x1_0",
    CONDCONV,
    27_810_960,
    328_541_312,
    _table_1(74.6, 329e6, _NOTE),
    operator=CondConv(num_experts=8, first_block=1, head=True, classifier=True),
)
_register("mobilenet_v2_drconv_x1_0", DRCONV, 16_054_696, 418_735_744, operator=DRConv(regions=8))
_register(
    "mobilenet_v2_x1_0_cifar",
    _PAPER,
    2_236_682,
    165_163_520,
    CIFAR,
    blocks=BLOCKS_CIFAR,
    stem_strides=1,
    dropout_rate=0.5,
    padding="symmetric",
    bn_epsilon=1e-5,
)
