"""EfficientNet (arXiv 1905.11946), EfficientNet-Lite and CondConv-EfficientNet (arXiv 1904.04971, section 4.1).

Seven stages of MBConv blocks with squeeze-and-excitation and swish. In the CondConv networks the blocks of the last
three stages are conditional. EfficientNet-Lite has no squeeze-and-excitation and ReLU6 instead of swish, for hardware
that lacks them, and scales neither stem and head nor the first and the last stage.
"""

from convzoo.models.info import IMAGENET_MEAN, IMAGENET_STD, ModelInfo, Preprocessing, Published, Reported
from convzoo.models.mbconv import mbconv_network
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
CONDCONV_BLOCKS = (*BLOCKS[:4], *(f"{stage}_cc" for stage in BLOCKS[4:]))

_PAPER = "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks, arXiv 1905.11946"
_MMPRETRAIN = "the authors' AutoAugment weights, re-evaluated by MMPretrain"
_README = "the authors' README for their CondConv weights"
# Others reproduced the accuracy with these weights at 240 pixels; nobody published it at 224.
_README_DEPTH = f"{_README}; reproduced by others at 240 pixels"
_NOTE = (
    "the authors publish 5 to 8 M more than the stage table has, for B0 and for its CondConv variants; the difference "
    "between them agrees"
)


def _register(
    name, paper, params, madds, reported, published=None, size=224, mean=IMAGENET_MEAN, std=IMAGENET_STD, **arguments
):
    # The published evaluation crops size / (size + 32) of the shorter side.
    preprocessing = Preprocessing(mean, std, crop_fraction=size / (size + 32))
    info = ModelInfo(name, "efficientnet", paper, params, madds, size, preprocessing, reported, published)
    register_model(mbconv_network, info, activation="silu", survival_prob=0.8, **arguments)


_PUBLISHED = {
    "efficientnet_b0": Published(5.3e6, 391e6, _README, _NOTE),
    "efficientnet_b1": Published(7.8e6, 700e6, _README, "the stage table at 240 pixels has 2 % less than 700 M"),
}
# Name: width, depth, input size, dropout rate, parameters, multiply-adds, reported top-1.
for _name, (_width, _depth, _size, _dropout, _params, _madds, _top1) in {
    "efficientnet_b0": (1.0, 1.0, 224, 0.2, 5_288_548, 385_814_752, 77.26),
    "efficientnet_b1": (1.0, 1.1, 240, 0.2, 7_794_184, 686_802_832, 79.20),
    "efficientnet_b2": (1.1, 1.2, 260, 0.3, 9_109_994, 993_561_872, 80.21),
    "efficientnet_b3": (1.2, 1.4, 300, 0.3, 12_233_232, 1_827_141_392, 81.58),
    "efficientnet_b4": (1.4, 1.8, 380, 0.4, 19_341_616, 4_393_771_024, 82.95),
    "efficientnet_b5": (1.6, 2.2, 456, 0.4, 30_389_784, 10_266_384_752, 83.82),
    "efficientnet_b6": (1.8, 2.6, 528, 0.5, 43_040_704, 19_067_593_536, 84.05),
    "efficientnet_b7": (2.0, 3.1, 600, 0.5, 66_347_960, 37_745_884_192, 84.38),
}.items():
    _arguments = {"width_coefficient": _width, "depth_coefficient": _depth, "dropout_rate": _dropout, "blocks": BLOCKS}
    _reported = Reported(_top1, _MMPRETRAIN)
    _register(_name, _PAPER, _params, _madds, _reported, _PUBLISHED.get(_name), _size, **_arguments)

_LITE = "EfficientNet-Lite, TensorFlow's README for its weights"
# Name: width, depth, input size, dropout rate, parameters, multiply-adds, reported top-1.
for _name, (_width, _depth, _size, _dropout, _params, _madds, _top1) in {
    "efficientnet_lite0": (1.0, 1.0, 224, 0.2, 4_652_008, 385_187_552, 75.1),
    "efficientnet_lite1": (1.0, 1.1, 240, 0.2, 5_416_680, 600_185_232, 76.7),
    "efficientnet_lite2": (1.1, 1.2, 260, 0.3, 6_092_072, 859_736_272, 77.6),
    "efficientnet_lite3": (1.2, 1.4, 280, 0.3, 8_197_096, 1_383_321_872, 79.8),
    "efficientnet_lite4": (1.4, 1.8, 300, 0.3, 13_006_568, 2_553_034_336, 81.5),
}.items():
    _preprocessing = Preprocessing((127.0,) * 3, (128.0,) * 3, crop_fraction=0.875)
    register_model(
        mbconv_network,
        ModelInfo(_name, "efficientnet", _LITE, _params, _madds, _size, _preprocessing, Reported(_top1, _LITE)),
        blocks=LITE_BLOCKS,
        activation="relu6",
        width_coefficient=_width,
        depth_coefficient=_depth,
        fixed_ends=True,
        dropout_rate=_dropout,
        survival_prob=0.8,
    )

# Name: depth, experts, parameters, multiply-adds, reported top-1 and source, published parameters and multiply-adds.
for _name, (_depth, _experts, _params, _madds, _top1, _source, *_published) in {
    "efficientnet_condconv_b0_4e": (1.0, 4, 13_314_116, 396_513_888, 77.8, _README, 13.3e6, 402e6),
    "efficientnet_condconv_b0_8e": (1.0, 8, 24_013_284, 407_213_024, 78.3, _README, 24.0e6, 413e6),
    "efficientnet_condconv_b0_8e_depth": (1.1, 8, 39_715_968, 606_131_552, 79.5, _README_DEPTH, 39.7e6, 614e6),
}.items():
    _register(
        _name,
        CONDCONV,
        _params,
        _madds,
        Reported(_top1, _source),
        Published(*_published, _README, _NOTE),
        mean=(127.0,) * 3,
        std=(128.0,) * 3,
        blocks=CONDCONV_BLOCKS,
        depth_coefficient=_depth,
        num_experts=_experts,
        dropout_rate=0.25,
    )
