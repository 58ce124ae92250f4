"""EfficientNet (arXiv 1905.11946) and CondConv-EfficientNet (arXiv 1904.04971, section 4.1).

A network is seven stages of MBConv blocks (1x1 expansion, depthwise convolution, squeeze-and-excitation, 1x1
projection) between a 3x3 stem and a 1x1 head. In the CondConv networks the blocks of the last three stages are
conditional: one routing vector a block, computed from the block's input, mixes the experts of its three convolutions.
"""

import math
import re
from typing import NamedTuple

import keras
from keras import layers

from convzoo.layers import CondConv2D, DepthwiseCondConv2D, ExpertRouting
from convzoo.models.errors import ModelError
from convzoo.models.info import ModelInfo, Preprocessing, Reported
from convzoo.models.registry import register_model

# r: repeats, k: kernel, s: stride in height and width, e: expansion, i and o: channels in and out, se: share of the
# input channels that squeeze-and-excitation keeps, cc: conditional. The notation is that of the published code.
BLOCKS = (
    "r1_k3_s11_e1_i32_o16_se0.25",
    "r2_k3_s22_e6_i16_o24_se0.25",
    "r2_k5_s22_e6_i24_o40_se0.25",
    "r3_k3_s22_e6_i40_o80_se0.25",
    "r3_k5_s11_e6_i80_o112_se0.25",
    "r4_k5_s22_e6_i112_o192_se0.25",
    "r1_k3_s11_e6_i192_o320_se0.25",
)
CONDCONV_BLOCKS = (*BLOCKS[:4], *(f"{stage}_cc" for stage in BLOCKS[4:]))

STEM_FILTERS, HEAD_FILTERS, WIDTH_DIVISOR = 32, 1280, 8

# Untruncated normal with standard deviation sqrt(2 / fan_out), as published. A depthwise kernel's fan_out is its area.
_CONV_INIT = {"scale": 2.0, "mode": "fan_out", "distribution": "untruncated_normal"}
# Uniform within 1 / sqrt(units).
_DENSE_INIT = {"scale": 1.0 / 3.0, "mode": "fan_out", "distribution": "uniform"}


class Stage(NamedTuple):
    """One stage of MBConv blocks, before scaling. `strides` are of its first block."""

    repeats: int
    kernel_size: int
    strides: tuple[int, int]
    expand_ratio: int
    input_filters: int
    output_filters: int
    se_ratio: float
    conditional: bool


_STAGE = re.compile(
    r"r(?P<r>\d+)_k(?P<k>\d+)_s(?P<s1>\d)(?P<s2>\d)_e(?P<e>\d+)_i(?P<i>\d+)_o(?P<o>\d+)(_se(?P<se>\d*\.?\d+))?(?P<cc>_cc)?"
)


def decode_stage(text: str) -> Stage:
    """Reads a stage from its published notation, as "r3_k5_s11_e6_i80_o112_se0.25_cc".

    Raises:
        ModelError: The text is not of that form.
    """
    match = _STAGE.fullmatch(text)
    if match is None:
        raise ModelError(f"cannot read the stage {text!r}; write it as {CONDCONV_BLOCKS[-1]!r}")
    return Stage(
        repeats=int(match["r"]),
        kernel_size=int(match["k"]),
        strides=(int(match["s1"]), int(match["s2"])),
        expand_ratio=int(match["e"]),
        input_filters=int(match["i"]),
        output_filters=int(match["o"]),
        se_ratio=float(match["se"] or 0.0),
        conditional=match["cc"] is not None,
    )


def round_filters(filters: int, width_coefficient: float) -> int:
    """Channels after scaling: a multiple of 8, rounded to the nearest but never down by more than a tenth."""
    if width_coefficient == 1.0:
        return filters
    scaled = filters * width_coefficient
    rounded = max(WIDTH_DIVISOR, int(scaled + WIDTH_DIVISOR / 2) // WIDTH_DIVISOR * WIDTH_DIVISOR)
    return int(rounded + WIDTH_DIVISOR if rounded < 0.9 * scaled else rounded)


class _Parts:
    """The convolutions and normalisations of one network, with what all of them share."""

    def __init__(self, num_experts: int, bn_momentum: float, bn_epsilon: float):
        self.num_experts, self.bn_momentum, self.bn_epsilon = num_experts, bn_momentum, bn_epsilon

    def conv(self, x, name, filters, kernel_size=1, strides=1, use_bias=False, routing=None):
        arguments = {
            "filters": filters,
            "kernel_size": kernel_size,
            "strides": strides,
            "padding": "same",
            "data_format": "channels_last",
            "use_bias": use_bias,
            "kernel_initializer": keras.initializers.VarianceScaling(**_CONV_INIT),
            "name": name,
        }
        if routing is None:
            return layers.Conv2D(**arguments)(x)
        return CondConv2D(num_experts=self.num_experts, **arguments)(x, routing)

    def depthwise(self, x, name, kernel_size, strides, routing=None):
        arguments = {
            "kernel_size": kernel_size,
            "strides": strides,
            "padding": "same",
            "data_format": "channels_last",
            "use_bias": False,
            "depthwise_initializer": keras.initializers.VarianceScaling(**_CONV_INIT),
            "name": name,
        }
        if routing is None:
            return layers.DepthwiseConv2D(**arguments)(x)
        return DepthwiseCondConv2D(num_experts=self.num_experts, **arguments)(x, routing)

    def norm(self, x, name, swish=True):
        x = layers.BatchNormalization(momentum=self.bn_momentum, epsilon=self.bn_epsilon, name=f"{name}_bn")(x)
        return layers.Activation("silu", name=f"{name}_swish")(x) if swish else x

    def squeeze_excite(self, x, name, filters):
        scale = layers.GlobalAveragePooling2D("channels_last", keepdims=True, name=f"{name}_se_squeeze")(x)
        scale = self.conv(scale, f"{name}_se_reduce", filters, use_bias=True)
        scale = layers.Activation("silu", name=f"{name}_se_swish")(scale)
        scale = self.conv(scale, f"{name}_se_expand", x.shape[-1], use_bias=True)
        scale = layers.Activation("sigmoid", name=f"{name}_se_sigmoid")(scale)
        return layers.Multiply(name=f"{name}_se_excite")([x, scale])


def _mbconv(parts: _Parts, x, name: str, stage: Stage, filters: int, strides: tuple[int, int], drop_rate: float):
    inputs, input_filters = x, x.shape[-1]
    routing = None
    if stage.conditional:
        # Float32 under every policy: a sigmoid in bfloat16 has 8 bits, too few to tell experts apart.
        routing = ExpertRouting(parts.num_experts, dtype="float32", name=f"{name}_routing")(inputs)
    if stage.expand_ratio != 1:
        x = parts.conv(x, f"{name}_expand_conv", input_filters * stage.expand_ratio, routing=routing)
        x = parts.norm(x, f"{name}_expand")
    x = parts.depthwise(x, f"{name}_depthwise_conv", stage.kernel_size, strides, routing=routing)
    x = parts.norm(x, f"{name}_depthwise")
    if stage.se_ratio:
        x = parts.squeeze_excite(x, name, max(1, int(input_filters * stage.se_ratio)))
    x = parts.conv(x, f"{name}_project_conv", filters, routing=routing)
    x = parts.norm(x, f"{name}_project", swish=False)
    if strides == (1, 1) and input_filters == filters:
        if drop_rate:
            # Drop-connect: the whole branch of one example is dropped, and the kept ones are scaled up.
            x = layers.Dropout(drop_rate, noise_shape=(None, 1, 1, 1), name=f"{name}_drop_connect")(x)
        x = layers.Add(name=f"{name}_add")([x, inputs])
    return x


def efficientnet(
    *,
    num_classes: int = 1000,
    input_shape: tuple[int | None, int | None, int] = (224, 224, 3),
    include_top: bool = True,
    features: bool = False,
    blocks: tuple[str, ...] = BLOCKS,
    width_coefficient: float = 1.0,
    depth_coefficient: float = 1.0,
    num_experts: int = 8,
    dropout_rate: float = 0.2,
    survival_prob: float = 0.8,
    stem_strides: int = 2,
    bn_momentum: float = 0.99,
    bn_epsilon: float = 1e-3,
    name: str = "efficientnet",
) -> keras.Model:
    """Builds an EfficientNet; stages whose text ends in "_cc" are conditional.

    Args:
        num_classes: Width of the logits.
        input_shape: Height, width and channels of one image; height and width may be None.
        include_top: False ends the network at the head's feature map, float [batch, h, w, head channels].
        features: True returns a dict of feature maps instead: "reduction_1" .. "reduction_5", the last block's output
            at each resolution (at 1/2 to 1/32 of the input where `stem_strides` is 2), and "head".
        blocks: One text a stage, in the published notation (see `decode_stage`).
        width_coefficient: Factor on every channel count, rounded to multiples of 8.
        depth_coefficient: Factor on the repeats of every stage, rounded up.
        num_experts: Experts of each conditional convolution (n in the paper).
        dropout_rate: Dropout before the classifier.
        survival_prob: Share of examples that keep the last block's branch; earlier blocks keep more, linearly.
        stem_strides: 2 as published; 1 keeps small pictures (32x32) from vanishing.
        bn_momentum, bn_epsilon: Of every batch normalisation.
        name: Name of the model.

    Returns:
        A `keras.Model` from float images [batch, height, width, channels] to float32 logits [batch, num_classes].

    Raises:
        ModelError: A stage that cannot be read, or that does not fit the one before.
    """
    parts = _Parts(num_experts, bn_momentum, bn_epsilon)
    stages = [decode_stage(text) for text in blocks]
    given = STEM_FILTERS
    for text, stage in zip(blocks, stages, strict=True):
        if stage.input_filters != given:
            raise ModelError(f"stage {text!r} wants i{stage.input_filters}, but gets {given} channels; write i{given}")
        given = stage.output_filters
    repeats = [math.ceil(stage.repeats * depth_coefficient) for stage in stages]

    images = keras.Input(input_shape, name="images")
    x = parts.conv(images, "stem_conv", round_filters(STEM_FILTERS, width_coefficient), 3, stem_strides)
    x = parts.norm(x, "stem")

    endpoints = {}
    index = 0
    for stage, count in zip(stages, repeats, strict=True):
        for repeat in range(count):
            strides = stage.strides if repeat == 0 else (1, 1)
            if strides != (1, 1):
                endpoints[f"reduction_{len(endpoints) + 1}"] = x
            # Linear in the block's index, so the first block always survives and the last falls just short of the end.
            drop_rate = (1.0 - survival_prob) * index / sum(repeats)
            filters = round_filters(stage.output_filters, width_coefficient)
            x = _mbconv(parts, x, f"block{index}", stage, filters, strides, drop_rate)
            index += 1
    endpoints[f"reduction_{len(endpoints) + 1}"] = x

    x = parts.conv(x, "head_conv", round_filters(HEAD_FILTERS, width_coefficient))
    x = parts.norm(x, "head")
    if features:
        return keras.Model(images, {**endpoints, "head": x}, name=name)
    if not include_top:
        return keras.Model(images, x, name=name)
    x = layers.GlobalAveragePooling2D("channels_last", name="head_pool")(x)
    if dropout_rate:
        x = layers.Dropout(dropout_rate, name="head_dropout")(x)
    logits = layers.Dense(
        num_classes,
        kernel_initializer=keras.initializers.VarianceScaling(**_DENSE_INIT),
        dtype="float32",  # logits and what follows them stay exact under mixed_bfloat16
        name="head_dense",
    )(x)
    return keras.Model(images, logits, name=name)


_PAPER = "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks, arXiv 1905.11946"
_CONDCONV_PAPER = "CondConv: Conditionally Parameterized Convolutions for Efficient Inference, arXiv 1904.04971"
_IMAGENET_MEAN, _IMAGENET_STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
_MMPRETRAIN = "the authors' AutoAugment weights, re-evaluated by MMPretrain"
_README = "the authors' README for their CondConv weights"
# Others reproduced it with these weights at 240 pixels; what they give at 224 was not published.
_README_DEPTH = f"{_README}; reproduced by others at 240 pixels"

# name: width, depth, input size, dropout, parameters, multiply-adds, reported top-1
_STATIC = {
    "efficientnet_b0": (1.0, 1.0, 224, 0.2, 5_288_548, 385_814_752, 77.26),
    "efficientnet_b1": (1.0, 1.1, 240, 0.2, 7_794_184, 686_802_832, 79.20),
    "efficientnet_b2": (1.1, 1.2, 260, 0.3, 9_109_994, 993_561_872, 80.21),
    "efficientnet_b3": (1.2, 1.4, 300, 0.3, 12_233_232, 1_827_141_392, 81.58),
    "efficientnet_b4": (1.4, 1.8, 380, 0.4, 19_341_616, 4_393_771_024, 82.95),
    "efficientnet_b5": (1.6, 2.2, 456, 0.4, 30_389_784, 10_266_384_752, 83.82),
    "efficientnet_b6": (1.8, 2.6, 528, 0.5, 43_040_704, 19_067_593_536, 84.05),
    "efficientnet_b7": (2.0, 3.1, 600, 0.5, 66_347_960, 37_745_884_192, 84.38),
}
# name: depth, experts, parameters, multiply-adds, reported top-1
_CONDITIONAL = {
    "efficientnet_condconv_b0_4e": (1.0, 4, 13_314_116, 396_513_888, 77.8),
    "efficientnet_condconv_b0_8e": (1.0, 8, 24_013_284, 407_213_024, 78.3),
    "efficientnet_condconv_b0_8e_depth": (1.1, 8, 39_715_968, 606_131_552, 79.5),
}

for _name, (_width, _depth, _size, _dropout, _params, _madds, _top1) in _STATIC.items():
    register_model(
        efficientnet,
        ModelInfo(
            name=_name,
            family="efficientnet",
            paper=_PAPER,
            params=_params,
            madds=_madds,
            input_size=_size,
            # The published evaluation crops size / (size + 32) of the shorter side.
            preprocessing=Preprocessing(_IMAGENET_MEAN, _IMAGENET_STD, crop_fraction=_size / (_size + 32)),
            reported=Reported(_top1, _MMPRETRAIN),
        ),
        width_coefficient=_width,
        depth_coefficient=_depth,
        dropout_rate=_dropout,
    )

for _name, (_depth, _experts, _params, _madds, _top1) in _CONDITIONAL.items():
    register_model(
        efficientnet,
        ModelInfo(
            name=_name,
            family="efficientnet",
            paper=_CONDCONV_PAPER,
            params=_params,
            madds=_madds,
            input_size=224,
            preprocessing=Preprocessing((127.0,) * 3, (128.0,) * 3, crop_fraction=224 / (224 + 32)),
            reported=Reported(_top1, _README_DEPTH if _depth > 1 else _README),
        ),
        blocks=CONDCONV_BLOCKS,
        depth_coefficient=_depth,
        num_experts=_experts,
        dropout_rate=0.25,
    )
