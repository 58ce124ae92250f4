"""Seesaw-Net (arXiv 1905.03672) and IGCV3 (arXiv 1806.00178): inverted residuals with grouped point-wise convolutions.

A block is a grouped point-wise expansion, a depthwise convolution and a grouped point-wise projection. Seesaw blocks
have two groups of 1:3 of the channels. In the released code, blocks with 160 or more input channels have two equal
groups, like all blocks of IGCV3.

Seesaw-shuffle was released. Of Seesaw-share only a related network for faces was released: there the ratio is reversed
between expansion and projection instead of a channel shuffle. The paper's tables list two variants of it without a
description known to us. Here v1 has uneven groups where Seesaw-shuffle has them, and v0 in blocks with fewer than 96
output channels, because this reproduces the published parameters and multiply-adds. A symmetric ratio cannot be
reversed: such blocks keep the shuffle.

The convolutions are initialized as in the authors' code, see `equal_groups` of `convzoo.models.UnevenGroups`. The
classifier is initialized like that of the other networks; in the authors' code, from a normal distribution of standard
deviation 0.01.
"""

import keras
from keras import layers

from convzoo.models.builder import NetworkBuilder
from convzoo.models.info import CIFAR, IMAGENET_BILINEAR, ModelInfo, Published, Reported
from convzoo.models.mbconv import round_filters
from convzoo.models.operators import Operator, UnevenGroups
from convzoo.models.papers import SEESAW, SEESAW_TABLE_3, SEESAW_TABLE_5
from convzoo.models.registry import register_model

STEM_FILTERS, HEAD_FILTERS = 32, 1280
# Expansion ratio, output channels, number of blocks and strides of the first block, per stage.
STAGES = ((1, 16, 1, 1), (6, 24, 4, 2), (6, 32, 6, 2), (6, 64, 8, 2), (6, 96, 6, 1), (6, 160, 6, 2), (6, 320, 1, 1))


def seesawnet(
    *,
    num_classes: int,
    input_shape: tuple[int | None, int | None, int],
    stages: tuple[tuple[int, int, int, int], ...] = STAGES,
    stem_filters: int = STEM_FILTERS,
    width_coefficient: float = 1.0,
    activation: str = "relu6",
    expand_activation: bool = False,
    se_ratio: float = 0.0,
    operator: Operator | None = None,
    include_top: bool = True,
    features: bool = False,
    dropout_rate: float = 0.0,
    stem_strides: int = 2,
    padding: str = "symmetric",
    bn_momentum: float = 0.9,
    bn_epsilon: float = 1e-5,
    name: str = "seesawnet",
) -> keras.Model:
    """Builds the network of Seesaw-Net and IGCV3. See `convzoo.models.builder` for the arguments that builders share.

    The groups of their point-wise convolutions come from `operator`, `convzoo.models.UnevenGroups`.

    Args:
        stages: Expansion ratio, output channels, number of blocks and first strides of each stage.
        stem_filters: Channels of the stem.
        width_coefficient: Factor on the channels of stem and stages, rounded to multiples of 8. The head only widens.
        activation: Activation after the stem, the depthwise convolutions and the head.
        expand_activation: Whether the expansion has an activation too.
        se_ratio: Hidden channels of squeeze-and-excitation after the depthwise convolution, as a fraction of its
            channels; 0 for none. activation="silu" and expand_activation=True give the blocks of the authors' networks
            for faces, except for the activation inside squeeze-and-excitation.

    Raises:
        ModelError: The operator has no effect, or a ratio does not divide a block's channels.

    Example:
        >>> seesawnet(num_classes=10, input_shape=(32, 32, 3), stages=((1, 16, 1, 1), (6, 24, 2, 2))).output_shape
        (None, 10)
    """
    net = NetworkBuilder(activation, padding, bn_momentum, bn_epsilon, operator)
    images = keras.Input(input_shape, name="images")
    filters = round_filters(stem_filters, width_coefficient)
    x = net.norm(net.stem(images).conv(images, "stem_conv", filters, 3, stem_strides), "stem")
    x = inverted_residuals(net, x, stages, width_coefficient, expand_activation, se_ratio)
    filters = round_filters(HEAD_FILTERS, max(1.0, width_coefficient))
    x = net.norm(net.head(x).conv(x, "head_conv", filters), "head")
    return net.model(images, x, name, num_classes, include_top, features, dropout_rate)


def inverted_residuals(net, x, stages, width_coefficient, expand_activation, se_ratio):
    """Returns the output of stages of inverted residuals, whose point-wise convolutions may be grouped.

    Args:
        net: The NetworkBuilder.
        x: Input of the first block.
        stages, width_coefficient, expand_activation, se_ratio: As for `seesawnet`.
    """
    index = 0
    for expansion, stage_filters, count, stage_strides in stages:
        filters = round_filters(stage_filters, width_coefficient)
        for repeat in range(count):
            strides = stage_strides if repeat == 0 else 1
            if strides != 1:
                net.add_reduction(x)
            block = net.block(x, f"block{index}", filters)
            x = _inverted_residual(block, x, f"block{index}", expansion, filters, strides, expand_activation, se_ratio)
            index += 1
    net.add_reduction(x)
    return x


def _inverted_residual(block, x, name, expansion, filters, strides, expand_activation, se_ratio):
    inputs, width = x, expansion * x.shape[-1]
    x = block.norm(block.conv(x, f"{name}_expand_conv", width), f"{name}_expand", activation=expand_activation)
    x = block.mix(x, name)
    x = block.norm(block.depthwise(x, f"{name}_depthwise_conv", 3, strides), f"{name}_depthwise")
    if se_ratio:
        x = block.squeeze_excite(x, name, max(1, int(width * se_ratio)))
    x = block.norm(block.conv(x, f"{name}_project_conv", filters), f"{name}_project", activation=False)
    x = block.mix_outputs(x, name)
    if strides == 1 and inputs.shape[-1] == filters:
        x = layers.Add(name=f"{name}_add")([x, inputs])
    return x


_IGCV3 = "IGCV3: Interleaved Low-Rank Group Convolutions for Efficient Deep Neural Networks, arXiv 1806.00178"
_FIGURE_2 = "Seesaw-Net (arXiv 1905.03672), figure 2, read to 0.1 %"
_CIFAR_10 = f"{SEESAW_TABLE_3}: CIFAR-10"
_NOTE = "the table repeats IGCV3's own figure; the stage table has 313 M"
# The released code has equal groups in blocks of 160 or more input channels.
_SHUFFLE = UnevenGroups(ratio=(1, 3), mixing="shuffle", even_from=160)
_SHARE_V0 = UnevenGroups(ratio=(1, 3), mixing="share", even_from=96, even_by="outputs")
_SHARE_V1 = UnevenGroups(ratio=(1, 3), mixing="share", even_from=160)
_IGCV3_GROUPS = UnevenGroups(ratio=(1, 1), mixing="shuffle")
# The IGCV3 of Seesaw-Net's CIFAR tables has a second shuffle; on ImageNet they cite IGCV3's own figures.
_IGCV3_CIFAR = UnevenGroups(ratio=(1, 1), mixing="two_shuffles")


def _stages(half_depth, cifar):
    """Half of the depth is that of MobileNetV2. The CIFAR networks end at 8x8."""
    stages = STAGES
    if half_depth:
        stages = tuple((e, c, max(1, n // 2), s) for e, c, n, s in stages)
    if cifar:
        stages = tuple((e, c, n, 1 if c in (24, 160) else s) for e, c, n, s in stages)
    return stages


def _imagenet(name, params, madds, reported=None, published=None, *, operator, half_depth=False, paper=SEESAW):
    info = ModelInfo(
        name, "seesawnet", paper, params, madds, 224, IMAGENET_BILINEAR, reported=reported, published=published
    )
    register_model(seesawnet, info, stages=_stages(half_depth, cifar=False), operator=operator)


def _cifar(
    name,
    params,
    madds,
    top1,
    published_params,
    published_madds,
    params_100,
    *,
    operator,
    half_depth=False,
    paper=SEESAW,
):
    note = f"with CIFAR-100's classifier it has {params_100:,} parameters"
    published = Published(published_params, published_madds, _CIFAR_10, note)
    info = ModelInfo(
        name, "seesawnet", paper, params, madds, reported=Reported(top1, _CIFAR_10), published=published, **CIFAR
    )
    stages = _stages(half_depth, cifar=True)
    register_model(seesawnet, info, stages=stages, operator=operator, stem_strides=1, dropout_rate=0.5)


_imagenet(
    "seesawnet_shuffle_1_0d",
    3_644_184,
    360_950_976,
    Reported(72.9, SEESAW_TABLE_5),
    Published(3.6e6, 361e6, SEESAW_TABLE_5),
    operator=_SHUFFLE,
)
_imagenet(
    "seesawnet_shuffle_0_5d",
    2_728_024,
    209_265_792,
    Reported(69.5, _FIGURE_2),
    Published(None, 210e6, _FIGURE_2),
    operator=_SHUFFLE,
    half_depth=True,
)
_imagenet("seesawnet_share_v0_1_0d", 3_548_952, 343_978_944, operator=_SHARE_V0)
_imagenet("seesawnet_share_v0_0_5d", 2_674_264, 200_422_272, operator=_SHARE_V0, half_depth=True)
_imagenet("seesawnet_share_v1_1_0d", 3_644_184, 360_950_976, operator=_SHARE_V1)
_imagenet("seesawnet_share_v1_0_5d", 2_728_024, 209_265_792, operator=_SHARE_V1, half_depth=True)
_imagenet(
    "igcv3_1_0d",
    3_491_688,
    312_970_176,
    Reported(72.2, SEESAW_TABLE_5),
    Published(3.5e6, 318e6, SEESAW_TABLE_5, _NOTE),
    operator=_IGCV3_GROUPS,
    paper=_IGCV3,
)
_imagenet("igcv3_0_5d", 2_647_912, 183_262_080, operator=_IGCV3_GROUPS, half_depth=True, paper=_IGCV3)

# Name, parameters, multiply-adds, reported top-1, published parameters and multiply-adds, parameters for 100 classes.
_cifar("seesawnet_shuffle_1_0d_cifar", 2_375_994, 181_105_152, 95.28, 2.4e6, 181e6, 2_491_284, operator=_SHUFFLE)
_cifar(
    "seesawnet_shuffle_0_5d_cifar",
    1_459_834,
    108_212_736,
    95.10,
    1.5e6,
    108e6,
    1_575_124,
    operator=_SHUFFLE,
    half_depth=True,
)
_cifar("seesawnet_share_v0_1_0d_cifar", 2_280_762, 175_010_304, 95.36, 2.3e6, 175e6, 2_396_052, operator=_SHARE_V0)
_cifar(
    "seesawnet_share_v0_0_5d_cifar",
    1_406_074,
    104_772_096,
    94.99,
    1.4e6,
    104e6,
    1_521_364,
    operator=_SHARE_V0,
    half_depth=True,
)
_cifar("seesawnet_share_v1_1_0d_cifar", 2_375_994, 181_105_152, 95.20, 2.4e6, 181e6, 2_491_284, operator=_SHARE_V1)
_cifar(
    "seesawnet_share_v1_0_5d_cifar",
    1_459_834,
    108_212_736,
    94.80,
    1.5e6,
    108e6,
    1_575_124,
    operator=_SHARE_V1,
    half_depth=True,
)
_cifar("igcv3_1_0d_cifar", 2_223_498, 166_064_640, 95.01, 2.2e6, 166e6, 2_338_788, operator=_IGCV3_CIFAR, paper=_IGCV3)
_cifar(
    "igcv3_0_5d_cifar",
    1_379_722,
    100_348_416,
    94.75,
    1.4e6,
    100e6,
    1_495_012,
    operator=_IGCV3_CIFAR,
    half_depth=True,
    paper=_IGCV3,
)
