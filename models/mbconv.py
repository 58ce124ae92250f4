"""Networks of MBConv blocks: MobileNetV2, MnasNet, EfficientNet and their CondConv forms.

A network is stages of MBConv blocks (1x1 expansion, depthwise convolution, squeeze-and-excitation, 1x1 projection)
between a 3x3 stem and a 1x1 head. In a conditional block one routing vector, computed from the block's input, mixes the
experts of its three convolutions.
"""

import math
import re
from typing import NamedTuple

import keras
from keras import layers

from convzoo.models.errors import ModelError
from convzoo.models.parts import Endpoints, Parts
from convzoo.models.regions import Guides
from convzoo.models.routing import Router, first_block

STEM_FILTERS, HEAD_FILTERS, WIDTH_DIVISOR = 32, 1280, 8


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


# r: repeats, k: kernel, s: stride in height and width, e: expansion, i and o: channels in and out, se: share of the
# input channels that squeeze-and-excitation keeps, cc: conditional. The notation is that of the published code.
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
        raise ModelError(f"cannot read the stage {text!r}; write it as 'r3_k5_s11_e6_i80_o112_se0.25_cc'")
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


def _mbconv(
    parts: Parts,
    x,
    name: str,
    stage: Stage,
    filters: int,
    strides: tuple[int, int],
    drop_rate: float,
    router: Router | None,
    guides: Guides,
):
    inputs, input_filters = x, x.shape[-1]
    routing = None if router is None else router(inputs, name)
    guide = guides(inputs, name)
    if stage.expand_ratio != 1:
        x = parts.conv(x, f"{name}_expand_conv", input_filters * stage.expand_ratio, routing=routing, guide=guide)
        x = parts.norm(x, f"{name}_expand")
    x = parts.depthwise(x, f"{name}_depthwise_conv", stage.kernel_size, strides, routing=routing)
    x = parts.norm(x, f"{name}_depthwise")
    if stage.se_ratio:
        x = parts.squeeze_excite(x, name, max(1, int(input_filters * stage.se_ratio)))
    x = parts.conv(x, f"{name}_project_conv", filters, routing=routing, guide=guide)
    x = parts.norm(x, f"{name}_project", activation=False)
    if strides == (1, 1) and input_filters == filters:
        if drop_rate:
            # Drop-connect: the whole branch of one example is dropped, and the kept ones are scaled up.
            x = layers.Dropout(drop_rate, noise_shape=(None, 1, 1, 1), name=f"{name}_drop_connect")(x)
        x = layers.Add(name=f"{name}_add")([x, inputs])
    return x


def mbconv_network(
    *,
    num_classes: int,
    input_shape: tuple[int | None, int | None, int],
    blocks: tuple[str, ...],
    activation: str,
    include_top: bool = True,
    features: bool = False,
    width_coefficient: float = 1.0,
    depth_coefficient: float = 1.0,
    narrow_head: bool = True,
    num_experts: int = 8,
    first_conditional_block: int | None = None,
    conditional_head: bool = False,
    conditional_classifier: bool = False,
    routing: str = "one_layer",
    expert_dropout: float = 0.0,
    regions: int | None = None,
    bank_size: int = 8,
    generator: str = "shared_bank",
    dropout_rate: float = 0.2,
    survival_prob: float = 1.0,
    stem_strides: int = 2,
    padding: str = "same",
    bn_momentum: float = 0.99,
    bn_epsilon: float = 1e-3,
    name: str = "mbconv",
) -> keras.Model:
    """Builds a network of MBConv blocks.

    Args:
        num_classes: Width of the logits.
        input_shape: Height, width and channels of one image; height and width may be None.
        blocks: One text a stage, in the published notation (see `decode_stage`); "_cc" makes a stage conditional.
        activation: After normalisations, as "silu".
        include_top: False ends the network at the head's feature map, float [batch, h, w, head channels].
        features: True returns a dict of feature maps instead: "reduction_1" .. "reduction_5", the last block's output
            at each resolution (at 1/2 to 1/32 of the input where `stem_strides` is 2), and "head".
        width_coefficient: Factor on every channel count, rounded to multiples of 8.
        depth_coefficient: Factor on the repeats of every stage, rounded up.
        narrow_head: Whether a width_coefficient below 1 narrows the head too.
        num_experts: Experts of each conditional layer (n in CondConv, arXiv 1904.04971).
        first_conditional_block: Blocks from this one on are conditional, counted from 0 over the whole network as in
            the layers' names, whatever `blocks` say; -1 makes the stem conditional too.
        conditional_head: Whether the head's 1x1 convolution is conditional.
        conditional_classifier: Whether the classifier is conditional.
        routing, expert_dropout: See `convzoo.models.routing.Router`.
        regions, bank_size, generator: Of the blocks' region-aware 1x1 convolutions, see
            `convzoo.models.regions.Guides`; without regions they are not region-aware.
        dropout_rate: Dropout before the classifier.
        survival_prob: Share of examples that keep the last block's branch; earlier blocks keep more, linearly.
        stem_strides: 2 as published; 1 keeps small pictures (32x32) from vanishing.
        padding, bn_momentum, bn_epsilon: See `convzoo.models.parts.Parts`.
        name: Name of the model.

    Returns:
        A `keras.Model` from float images [batch, height, width, channels] to float32 logits [batch, num_classes].

    Raises:
        ModelError: A stage that cannot be read, or that does not fit the one before; an unknown routing, padding or
            generator, a first conditional block that there is not, or a convolution that would be conditional and
            region-aware.
    """
    parts = Parts(activation, padding, bn_momentum, bn_epsilon, num_experts)
    router = Router(routing, num_experts, expert_dropout)
    guides = Guides(regions, bank_size, generator)
    stages = [decode_stage(text) for text in blocks]
    given = STEM_FILTERS
    for text, stage in zip(blocks, stages, strict=True):
        if stage.input_filters != given:
            raise ModelError(f"stage {text!r} wants i{stage.input_filters}, but gets {given} channels; write i{given}")
        given = stage.output_filters
    repeats = [math.ceil(stage.repeats * depth_coefficient) for stage in stages]
    first = first_block(first_conditional_block, sum(repeats))

    images = keras.Input(input_shape, name="images")
    stem_routing = router(images, "stem") if first_conditional_block == -1 else None
    filters = round_filters(STEM_FILTERS, width_coefficient)
    x = parts.norm(parts.conv(images, "stem_conv", filters, 3, stem_strides, routing=stem_routing), "stem")

    endpoints = Endpoints()
    index = 0
    for stage, count in zip(stages, repeats, strict=True):
        for repeat in range(count):
            strides = stage.strides if repeat == 0 else (1, 1)
            if strides != (1, 1):
                endpoints.before_downsampling(x)
            # Linear in the block's index, so the first block always survives and the last falls just short of the end.
            drop_rate = (1.0 - survival_prob) * index / sum(repeats)
            filters = round_filters(stage.output_filters, width_coefficient)
            conditional = stage.conditional if first_conditional_block is None else index >= first
            of_block = router if conditional else None
            x = _mbconv(parts, x, f"block{index}", stage, filters, strides, drop_rate, of_block, guides)
            index += 1
    endpoints.before_downsampling(x)

    filters = round_filters(HEAD_FILTERS, width_coefficient if narrow_head else max(1.0, width_coefficient))
    head_routing = router(x, "head") if conditional_head else None
    x = parts.norm(parts.conv(x, "head_conv", filters, routing=head_routing), "head")

    def classifier(x):
        return parts.classifier(x, num_classes, dropout_rate, router if conditional_classifier else None)

    return endpoints.model(images, x, name, include_top, features, classifier)
