"""Networks of MBConv blocks: MobileNetV2, MnasNet and EfficientNet.

A network is a 3x3 stem, stages of MBConv blocks (1x1 expansion, depthwise convolution, squeeze-and-excitation, 1x1
projection) and a 1x1 head.
"""

import math
import re
from typing import NamedTuple

import keras
from keras import layers

from convzoo.errors import ModelError
from convzoo.models.builder import NetworkBuilder
from convzoo.models.operators import Operator

STEM_FILTERS, HEAD_FILTERS, WIDTH_DIVISOR = 32, 1280, 8


class Stage(NamedTuple):
    """One stage of MBConv blocks before scaling. `strides` apply to its first block."""

    repeats: int
    kernel_size: int
    strides: tuple[int, int]
    expand_ratio: int
    input_filters: int
    output_filters: int
    se_ratio: float


# Repeats, kernel size, strides of height and width, expansion ratio, input and output channels, squeeze-and-excitation
# channels as a fraction of the input channels. This is the notation of the published code.
_STAGE = re.compile(r"r(\d+)_k(\d+)_s(\d)(\d)_e(\d+)_i(\d+)_o(\d+)(?:_se(\d*\.?\d+))?")


def decode_stage(text: str) -> Stage:
    """Parses a stage in the notation of the published code.

    Raises:
        ModelError: The text is not in this notation.

    Example:
        >>> stage = decode_stage("r3_k5_s11_e6_i80_o112_se0.25")
        >>> stage.repeats, stage.output_filters, stage.se_ratio
        (3, 112, 0.25)
    """
    match = _STAGE.fullmatch(text)
    if match is None:
        raise ModelError(f"cannot parse the stage {text!r}; write it as 'r3_k5_s11_e6_i80_o112_se0.25'")
    repeats, kernel_size, height, width, expand_ratio, inputs, outputs = map(int, match.groups()[:7])
    return Stage(repeats, kernel_size, (height, width), expand_ratio, inputs, outputs, float(match[8] or 0))


def round_filters(filters: int, width_coefficient: float) -> int:
    """Scales a channel count to the nearest multiple of 8, but at least 90 % of the scaled count; 1.0 changes nothing.

    Example:
        >>> round_filters(32, 1.1), round_filters(16, 1.4)
        (32, 24)
    """
    if width_coefficient == 1.0:
        return filters
    scaled = filters * width_coefficient
    rounded = max(WIDTH_DIVISOR, int(scaled + WIDTH_DIVISOR / 2) // WIDTH_DIVISOR * WIDTH_DIVISOR)
    return int(rounded + WIDTH_DIVISOR if rounded < 0.9 * scaled else rounded)


def _mbconv(
    block: NetworkBuilder, x, name: str, stage: Stage, filters: int, strides: tuple[int, int], drop_rate: float
):
    """One MBConv block."""
    inputs, input_filters = x, x.shape[-1]
    if stage.expand_ratio != 1:
        x = block.norm(block.conv(x, f"{name}_expand_conv", input_filters * stage.expand_ratio), f"{name}_expand")
        x = block.mix(x, name)
    x = block.norm(block.depthwise(x, f"{name}_depthwise_conv", stage.kernel_size, strides), f"{name}_depthwise")
    if stage.se_ratio:
        x = block.squeeze_excite(x, name, max(1, int(input_filters * stage.se_ratio)))
    x = block.norm(block.conv(x, f"{name}_project_conv", filters), f"{name}_project", activation=False)
    x = block.mix_outputs(x, name)
    if strides == (1, 1) and input_filters == filters:
        if drop_rate:
            # Drop-connect drops the whole branch of an example and scales up the kept ones.
            x = layers.Dropout(drop_rate, noise_shape=(None, 1, 1, 1), name=f"{name}_drop_connect")(x)
        x = layers.Add(name=f"{name}_add")([x, inputs])
    return x


def mbconv_network(
    *,
    num_classes: int,
    input_shape: tuple[int | None, int | None, int],
    blocks: tuple[str, ...],
    activation: str,
    width_coefficient: float = 1.0,
    depth_coefficient: float = 1.0,
    narrow_head: bool = True,
    fixed_ends: bool = False,
    survival_prob: float = 1.0,
    operator: Operator | None = None,
    include_top: bool = True,
    features: bool = False,
    dropout_rate: float = 0.2,
    stem_strides: int = 2,
    padding: str = "same",
    bn_momentum: float = 0.99,
    bn_epsilon: float = 1e-3,
    name: str = "mbconv",
) -> keras.Model:
    """Builds a network of MBConv blocks. See `convzoo.models.builder` for the arguments that all builders share.

    Args:
        blocks: One string per stage, see `decode_stage`.
        activation: Activation after normalization, for example "silu".
        width_coefficient: Factor on the channel counts, which are rounded to multiples of 8.
        depth_coefficient: Factor on the repeats of every stage, rounded up.
        narrow_head: Whether a width_coefficient below 1 narrows the head too.
        fixed_ends: Whether the coefficients leave the widths of stem and head and the repeats of the first and the last
            stage as they are, as in EfficientNet-Lite.
        survival_prob: Block i of n drops the branch of an example with probability (1 - survival_prob) * i / n.

    Raises:
        ModelError: A stage cannot be parsed or does not fit the previous one, or the operator has no effect.

    Example:
        >>> blocks = ("r1_k3_s11_e1_i32_o16", "r2_k3_s22_e6_i16_o24_se0.25")
        >>> mbconv_network(num_classes=10, input_shape=(32, 32, 3), blocks=blocks, activation="silu").output_shape
        (None, 10)
    """
    net = NetworkBuilder(activation, padding, bn_momentum, bn_epsilon, operator)
    stages = [decode_stage(text) for text in blocks]
    filters = STEM_FILTERS
    for text, stage in zip(blocks, stages, strict=True):
        if stage.input_filters != filters:
            raise ModelError(f"stage {text!r} has i{stage.input_filters} after {filters} channels; write i{filters}")
        filters = stage.output_filters
    repeats = [math.ceil(stage.repeats * depth_coefficient) for stage in stages]
    if fixed_ends:
        repeats = [stages[0].repeats, *repeats[1:-1], stages[-1].repeats]

    images = keras.Input(input_shape, name="images")
    filters = round_filters(STEM_FILTERS, 1.0 if fixed_ends else width_coefficient)
    x = net.norm(net.stem(images).conv(images, "stem_conv", filters, 3, stem_strides), "stem")

    index = 0
    for stage, count in zip(stages, repeats, strict=True):
        for repeat in range(count):
            strides = stage.strides if repeat == 0 else (1, 1)
            if strides != (1, 1):
                net.add_reduction(x)
            drop_rate = (1.0 - survival_prob) * index / sum(repeats)
            filters = round_filters(stage.output_filters, width_coefficient)
            block = net.block(x, f"block{index}", filters)
            x = _mbconv(block, x, f"block{index}", stage, filters, strides, drop_rate)
            index += 1
    net.add_reduction(x)

    head_coefficient = width_coefficient if narrow_head else max(1.0, width_coefficient)
    filters = round_filters(HEAD_FILTERS, 1.0 if fixed_ends else head_coefficient)
    x = net.norm(net.head(x).conv(x, "head_conv", filters), "head")
    return net.model(images, x, name, num_classes, include_top, features, dropout_rate)
