"""EfficientNet (arXiv 1905.11946), EfficientNet-Lite and CondConv-EfficientNet (arXiv 1904.04971, section 4.1).

Seven stages of MBConv blocks with squeeze-and-excitation and swish. In the CondConv networks the blocks of the last
three stages are conditional. EfficientNet-Lite has no squeeze-and-excitation and ReLU6 instead of swish, for hardware
that lacks them, and scales neither stem and head nor the first and the last stage.
"""

from convzoo.models.info import IMAGENET_MEAN, IMAGENET_STD, ModelInfo, Preprocessing, Published, Reported
from convzoo.models.mbconv import mbconv_network
from convzoo.models.operators import CondConv
from convzoo.models.papers import CONDCONV
from convzoo.models.registry import register_model

BLOCKS = (
    "r1_k3_s11_e1_i32_o16_se0.25",
    "r2_k3_s22_e6_i16_o24_se0.25",
    "r2_k5_s22_e6_i24_o40_se0.25",
    "r3_k3_s22_e6_i40_o80_se0.25",
    "r3_k5_s11_e6_i80_o112_se0.25",
    "r4_k5_s22_e6_i112_o192_se0.25",
    "r1_k3_s11_e6_i192_o320_se0.25",
)
LITE_BLOCKS = tuple(stage.removesuffix("_se0.25") for stage in BLOCKS)

_PAPER = "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks, arXiv 1905.11946"
_LITE = "EfficientNet-Lite, TensorFlow's README for its weights"
_MMPRETRAIN = "the authors' AutoAugment weights, re-evaluated by MMPretrain"
_README = "the authors' README for their CondConv weights"
# Others reproduced the accuracy with these weights at 240 pixels; nobody published it at 224.
_README_DEPTH = f"{_README}; reproduced by others at 240 pixels"
_NOTE = (
    "the authors publish 5 to 8 M more than the stage table has, for B0 and for its CondConv variants; the difference "
    "between them agrees"
)


def _efficientnet(name, params, madds, top1, *, width, depth, size, dropout, published=None):
    # The published evaluation crops size / (size + 32) of the shorter side.
    preprocessing = Preprocessing(IMAGENET_MEAN, IMAGENET_STD, crop_fraction=size / (size + 32))
    reported = Reported(top1, _MMPRETRAIN)
    register_model(
        mbconv_network,
        ModelInfo(name, "efficientnet", _PAPER, params, madds, size, preprocessing, reported, published),
        blocks=BLOCKS,
        activation="silu",
        width_coefficient=width,
        depth_coefficient=depth,
        dropout_rate=dropout,
        survival_prob=0.8,
    )


def _lite(name, params, madds, top1, *, width, depth, size, dropout):
    preprocessing = Preprocessing((127.0, 127.0, 127.0), (128.0, 128.0, 128.0), crop_fraction=0.875)
    register_model(
        mbconv_network,
        ModelInfo(name, "efficientnet", _LITE, params, madds, size, preprocessing, Reported(top1, _LITE)),
        blocks=LITE_BLOCKS,
        activation="relu6",
        width_coefficient=width,
        depth_coefficient=depth,
        fixed_ends=True,
        dropout_rate=dropout,
        survival_prob=0.8,
    )


def _condconv(name, params, madds, top1, source, published, *, depth, operator):
    preprocessing = Preprocessing((127.0, 127.0, 127.0), (128.0, 128.0, 128.0), crop_fraction=224 / (224 + 32))
    reported = Reported(top1, source)
    register_model(
        mbconv_network,
        ModelInfo(name, "efficientnet", CONDCONV, params, madds, 224, preprocessing, reported, published),
        blocks=BLOCKS,
        activation="silu",
        depth_coefficient=depth,
        operator=operator,
        dropout_rate=0.25,
        survival_prob=0.8,
    )


_efficientnet(
    "efficientnet_b0",
    5_288_548,
    385_814_752,
    77.26,
    width=1.0,
    depth=1.0,
    size=224,
    dropout=0.2,
    published=Published(5.3e6, 391e6, _README, _NOTE),
)
_efficientnet(
    "efficientnet_b1",
    7_794_184,
    686_802_832,
    79.20,
    width=1.0,
    depth=1.1,
    size=240,
    dropout=0.2,
    published=Published(7.8e6, 700e6, _README, "the stage table at 240 pixels has 2 % less than 700 M"),
)
_efficientnet("efficientnet_b2", 9_109_994, 993_561_872, 80.21, width=1.1, depth=1.2, size=260, dropout=0.3)
_efficientnet("efficientnet_b3", 12_233_232, 1_827_141_392, 81.58, width=1.2, depth=1.4, size=300, dropout=0.3)
_efficientnet("efficientnet_b4", 19_341_616, 4_393_771_024, 82.95, width=1.4, depth=1.8, size=380, dropout=0.4)
_efficientnet("efficientnet_b5", 30_389_784, 10_266_384_752, 83.82, width=1.6, depth=2.2, size=456, dropout=0.4)
_efficientnet("efficientnet_b6", 43_040_704, 19_067_593_536, 84.05, width=1.8, depth=2.6, size=528, dropout=0.5)
_efficientnet("efficientnet_b7", 66_347_960, 37_745_884_192, 84.38, width=2.0, depth=3.1, size=600, dropout=0.5)

_lite("efficientnet_lite0", 4_652_008, 385_187_552, 75.1, width=1.0, depth=1.0, size=224, dropout=0.2)
_lite("efficientnet_lite1", 5_416_680, 600_185_232, 76.7, width=1.0, depth=1.1, size=240, dropout=0.2)
_lite("efficientnet_lite2", 6_092_072, 859_736_272, 77.6, width=1.1, depth=1.2, size=260, dropout=0.3)
_lite("efficientnet_lite3", 8_197_096, 1_383_321_872, 79.8, width=1.2, depth=1.4, size=280, dropout=0.3)
_lite("efficientnet_lite4", 13_006_568, 2_553_034_336, 81.5, width=1.4, depth=1.8, size=300, dropout=0.3)

# The first conditional block is that of the fifth of seven stages.
_condconv(
    "efficientnet_condconv_b0_4e",
    13_314_116,
    396_513_888,
    77.8,
    _README,
    Published(13.3e6, 402e6, _README, _NOTE),
    depth=1.0,
    operator=CondConv(4, first_block=8),
)
_condconv(
    "efficientnet_condconv_b0_8e",
    24_013_284,
    407_213_024,
    78.3,
    _README,
    Published(24.0e6, 413e6, _README, _NOTE),
    depth=1.0,
    operator=CondConv(8, first_block=8),
)
_condconv(
    "efficientnet_condconv_b0_8e_depth",
    39_715_968,
    606_131_552,
    79.5,
    _README_DEPTH,
    Published(39.7e6, 614e6, _README, _NOTE),
    depth=1.1,
    operator=CondConv(8, first_block=12),
)
