"""Seesaw-Net (arXiv 1905.03672) and IGCV3 (arXiv 1806.00178): inverted residuals with grouped point-wise convolutions.

A block is a grouped point-wise expansion, a depthwise convolution and a grouped point-wise projection. Seesaw blocks
have two groups of 1:3 of the channels. In the released code, blocks with 160 or more input channels have two equal
groups, like all blocks of IGCV3.

Seesaw-shuffle was released. Of Seesaw-share only a related network for faces was released: there the ratio is reversed
between expansion and projection instead of a channel shuffle. The paper's tables list two variants of it without a
description known to us. Here v1 has uneven groups where Seesaw-shuffle has them, and v0 in blocks with fewer than 96
output channels, because this reproduces the published parameters and multiply-adds. A symmetric ratio cannot be
reversed: such blocks keep the shuffle.

The weights are initialized like those of the other networks. The authors' code computes a grouped convolution's fan-out
from all its channels, and initializes the classifier from a normal distribution of standard deviation 0.01.
"""

import keras
from keras import layers

from convzoo.errors import ModelError
from convzoo.layers import ChannelShuffle
from convzoo.models.blocks import ConvBlockBuilder
from convzoo.models.info import CIFAR, IMAGENET_BILINEAR, ModelInfo, Published, Reported
from convzoo.models.mbconv import round_filters
from convzoo.models.papers import SEESAW, SEESAW_TABLE_3, SEESAW_TABLE_5
from convzoo.models.registry import register_model

STEM_FILTERS, HEAD_FILTERS = 32, 1280
# Expansion ratio, output channels, number of blocks and strides of the first block, per stage.
STAGES = ((1, 16, 1, 1), (6, 24, 4, 2), (6, 32, 6, 2), (6, 64, 8, 2), (6, 96, 6, 1), (6, 160, 6, 2), (6, 320, 1, 1))
EVEN = (1, 1)


def seesawnet(
    *,
    num_classes: int,
    input_shape: tuple[int | None, int | None, int],
    stages: tuple[tuple[int, int, int, int], ...] = STAGES,
    stem_filters: int = STEM_FILTERS,
    width_coefficient: float = 1.0,
    mixing: str = "shuffle",
    ratio: tuple[int, ...] = (1, 3),
    even_from: int = 160,
    even_by: str = "inputs",
    second_shuffle: bool = False,
    activation: str = "relu6",
    expand_activation: bool = False,
    se_ratio: float = 0.0,
    include_top: bool = True,
    features: bool = False,
    dropout_rate: float = 0.0,
    stem_strides: int = 2,
    padding: str = "symmetric",
    bn_momentum: float = 0.9,
    bn_epsilon: float = 1e-5,
    name: str = "seesawnet",
) -> keras.Model:
    """Builds a Seesaw-Net or an IGCV3. See `convzoo.models.blocks` for the arguments that all builders share.

    Args:
        stages: Expansion ratio, output channels, number of blocks and first strides of each stage.
        stem_filters: Channels of the stem.
        width_coefficient: Factor on the channels of stem and stages, rounded to multiples of 8. The head only widens.
        mixing: How the groups of a block exchange information. "shuffle": a channel shuffle of 2 groups after the
            expansion. "share": the projection has the reversed ratio, so that its first group reads from both groups of
            the expansion; blocks with a symmetric ratio are shuffled instead.
        ratio: Shares of the groups, see `convzoo.layers.UnevenPointwiseConv2D`. Its sum must divide every channel count
            of the blocks that use it.
        even_from: Blocks of this many channels or more have two equal groups and a shuffle, whatever `ratio` and
            `mixing` are.
        even_by: The channel count that `even_from` refers to: a block's "inputs" or its "outputs".
        second_shuffle: Whether the projection is followed by a second shuffle with half as many groups as channels, as
            in the IGCV3 baseline of the Seesaw-Net authors. IGCV3's own code has one shuffle.
        activation: Activation after the stem, the depthwise convolutions and the head.
        expand_activation: Whether the expansion has an activation too.
        se_ratio: Hidden channels of squeeze-and-excitation after the depthwise convolution, as a fraction of its
            channels; 0 for none. activation="silu", expand_activation=True and a large even_from give the blocks of the
            authors' networks for faces, except for the activation inside squeeze-and-excitation.

    Raises:
        ModelError: The mixing or even_by is unknown, or the ratio does not divide a block's channels.

    Example:
        >>> seesawnet(num_classes=10, input_shape=(32, 32, 3), stages=((1, 16, 1, 1), (6, 24, 2, 2))).output_shape
        (None, 10)
    """
    if mixing not in ("shuffle", "share"):
        raise ModelError(f"mixing {mixing!r} is unknown; choose shuffle or share")
    if even_by not in ("inputs", "outputs"):
        raise ModelError(f"even_by {even_by!r} is unknown; choose inputs or outputs")
    block = ConvBlockBuilder(activation, padding, bn_momentum, bn_epsilon)
    images = keras.Input(input_shape, name="images")
    filters = round_filters(stem_filters, width_coefficient)
    x = block.norm(block.conv(images, "stem_conv", filters, 3, stem_strides), "stem")
    index = 0
    for expansion, stage_filters, count, stage_strides in stages:
        filters = round_filters(stage_filters, width_coefficient)
        for repeat in range(count):
            strides = stage_strides if repeat == 0 else 1
            if strides != 1:
                block.add_reduction(x)
            even = (x.shape[-1] if even_by == "inputs" else filters) >= even_from
            x = _inverted_residual(
                block,
                x,
                f"block{index}",
                expansion,
                filters,
                strides,
                ratio=EVEN if even else tuple(ratio),
                mixing="shuffle" if even else mixing,
                second_shuffle=second_shuffle,
                expand_activation=expand_activation,
                se_ratio=se_ratio,
            )
            index += 1
    block.add_reduction(x)
    filters = round_filters(HEAD_FILTERS, max(1.0, width_coefficient))
    x = block.norm(block.conv(x, "head_conv", filters), "head")
    return block.model(images, x, name, num_classes, include_top, features, dropout_rate)


def _inverted_residual(
    block, x, name, expansion, filters, strides, *, ratio, mixing, second_shuffle, expand_activation, se_ratio
):
    """An inverted residual with grouped point-wise convolutions."""
    shuffle = mixing == "shuffle" or ratio == ratio[::-1]
    inputs, width = x, expansion * x.shape[-1]
    x = block.uneven_pointwise(x, f"{name}_expand_conv", width, ratio)
    x = block.norm(x, f"{name}_expand", activation=expand_activation)
    if shuffle:
        x = ChannelShuffle(2, name=f"{name}_shuffle")(x)
    x = block.norm(block.depthwise(x, f"{name}_depthwise_conv", 3, strides), f"{name}_depthwise")
    if se_ratio:
        x = block.squeeze_excite(x, name, max(1, int(width * se_ratio)))
    x = block.uneven_pointwise(x, f"{name}_project_conv", filters, ratio, "given" if shuffle else "reversed")
    x = block.norm(x, f"{name}_project", activation=False)
    if second_shuffle:
        x = ChannelShuffle(filters // 2, name=f"{name}_second_shuffle")(x)
    if strides == 1 and inputs.shape[-1] == filters:
        x = layers.Add(name=f"{name}_add")([x, inputs])
    return x


_IGCV3 = "IGCV3: Interleaved Low-Rank Group Convolutions for Efficient Deep Neural Networks, arXiv 1806.00178"
_FIGURE_2 = "Seesaw-Net (arXiv 1905.03672), figure 2, read to 0.1 %"
_CIFAR_10 = f"{SEESAW_TABLE_3}: CIFAR-10"
_NOTE = "the table repeats IGCV3's own figure; the stage table has 313 M"
# Paper and arguments by the prefix of the name.
_VARIANTS = {
    "seesawnet_shuffle": (SEESAW, {}),
    "seesawnet_share_v0": (SEESAW, {"mixing": "share", "even_from": 96, "even_by": "outputs"}),
    "seesawnet_share_v1": (SEESAW, {"mixing": "share"}),
    "igcv3": (_IGCV3, {"ratio": EVEN}),
}


def _register(name, params, madds, reported=None, published=None):
    """Registers a network for ImageNet or, if its name ends in _cifar, for CIFAR-10.

    The networks of depth 0.5 have half as many blocks per stage, as MobileNetV2 does. The CIFAR networks end at 8x8.
    """
    variant = next(variant for variant in _VARIANTS if name.startswith(variant))
    paper, arguments = _VARIANTS[variant]
    stages, cifar = STAGES, name.endswith("_cifar")
    if "_0_5d" in name:
        stages = tuple((e, c, max(1, n // 2), s) for e, c, n, s in stages)
    if cifar:
        stages = tuple((e, c, n, 1 if c in (24, 160) else s) for e, c, n, s in stages)
        # The IGCV3 of Seesaw-Net's CIFAR tables has a second shuffle; on ImageNet they cite IGCV3's own figures.
        arguments = {**arguments, "stem_strides": 1, "dropout_rate": 0.5, "second_shuffle": variant == "igcv3"}
    settings = CIFAR if cifar else {"preprocessing": IMAGENET_BILINEAR}
    info = ModelInfo(name, "seesawnet", paper, params, madds, reported=reported, published=published, **settings)
    register_model(seesawnet, info, stages=stages, **arguments)


def _register_cifar(name, params, madds, top1, published_params, published_madds, params_100):
    note = f"with CIFAR-100's classifier it has {params_100:,} parameters"
    published = Published(published_params, published_madds, _CIFAR_10, note)
    _register(name, params, madds, Reported(top1, _CIFAR_10), published)


_register(
    "seesawnet_shuffle_1_0d",
    3_644_184,
    360_950_976,
    Reported(72.9, SEESAW_TABLE_5),
    Published(3.6e6, 361e6, SEESAW_TABLE_5),
)
_register(
    "seesawnet_shuffle_0_5d", 2_728_024, 209_265_792, Reported(69.5, _FIGURE_2), Published(None, 210e6, _FIGURE_2)
)
_register("seesawnet_share_v0_1_0d", 3_548_952, 343_978_944)
_register("seesawnet_share_v0_0_5d", 2_674_264, 200_422_272)
_register("seesawnet_share_v1_1_0d", 3_644_184, 360_950_976)
_register("seesawnet_share_v1_0_5d", 2_728_024, 209_265_792)
_register(
    "igcv3_1_0d",
    3_491_688,
    312_970_176,
    Reported(72.2, SEESAW_TABLE_5),
    Published(3.5e6, 318e6, SEESAW_TABLE_5, _NOTE),
)
_register("igcv3_0_5d", 2_647_912, 183_262_080)

# Name, parameters, multiply-adds, reported top-1, published parameters and multiply-adds, parameters for 100 classes.
_register_cifar("seesawnet_shuffle_1_0d_cifar", 2_375_994, 181_105_152, 95.28, 2.4e6, 181e6, 2_491_284)
_register_cifar("seesawnet_shuffle_0_5d_cifar", 1_459_834, 108_212_736, 95.10, 1.5e6, 108e6, 1_575_124)
_register_cifar("seesawnet_share_v0_1_0d_cifar", 2_280_762, 175_010_304, 95.36, 2.3e6, 175e6, 2_396_052)
_register_cifar("seesawnet_share_v0_0_5d_cifar", 1_406_074, 104_772_096, 94.99, 1.4e6, 104e6, 1_521_364)
_register_cifar("seesawnet_share_v1_1_0d_cifar", 2_375_994, 181_105_152, 95.20, 2.4e6, 181e6, 2_491_284)
_register_cifar("seesawnet_share_v1_0_5d_cifar", 1_459_834, 108_212_736, 94.80, 1.5e6, 108e6, 1_575_124)
_register_cifar("igcv3_1_0d_cifar", 2_223_498, 166_064_640, 95.01, 2.2e6, 166e6, 2_338_788)
_register_cifar("igcv3_0_5d_cifar", 1_379_722, 100_348_416, 94.75, 1.4e6, 100e6, 1_495_012)
