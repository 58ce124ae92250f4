"""Seesaw-Net (arXiv 1905.03672) and IGCV3 (arXiv 1806.00178): inverted residuals with point-wise groups.

A block expands by a point-wise convolution in groups, convolves depthwise, and projects by another in groups. Of a
Seesaw block the groups are uneven, 1:3; as released, a block with 160 input channels or more has two equal groups, as
all blocks of IGCV3 have.

Seesaw-shuffle was released. Of Seesaw-share only a relative for faces was: there the split tips from one quarter to
three between expansion and projection, in the place of the shuffle. Two forms of it stand in the paper's tables without
a description that we had: v1 is taken to have its uneven blocks where Seesaw-shuffle has them, v0 where a block's
outputs are narrower than 96, because parameters and multiply-adds come out as printed. A ratio that reads the same both
ways cannot tip: such blocks keep the shuffle here.

Weights start as those of our other networks do; the authors' code takes a convolution's whole width for that of each of
its groups or channels, and a normal distribution of deviation 0.01 for the classifier.
"""

import keras
from keras import layers

from convzoo.layers import ChannelShuffle
from convzoo.models.errors import ModelError
from convzoo.models.info import ModelInfo, Published, Reported
from convzoo.models.mbconv import round_filters
from convzoo.models.papers import SEESAW, SEESAW_TABLE_3, SEESAW_TABLE_5
from convzoo.models.parts import Endpoints, Parts
from convzoo.models.preprocessing import CIFAR10, IMAGENET_BILINEAR
from convzoo.models.registry import register_model

STEM_FILTERS, HEAD_FILTERS = 32, 1280
# Expansion, output channels, blocks, stride of the first of them.
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
    """Builds a Seesaw-Net or an IGCV3.

    Args:
        num_classes: Width of the logits.
        input_shape: Height, width and channels of one image; height and width may be None.
        stages: Expansion, output channels, number of blocks and first stride of each stage.
        stem_filters: Channels of the stem.
        width_coefficient: Factor on the channels of stem and stages, rounded to multiples of 8; the head widens with
            it, and never narrows.
        mixing: How the groups of a block meet. "shuffle": a channel shuffle of 2 groups after the expansion. "share":
            the ratio is reversed in the projection, so that its first group reads from both groups before it; a ratio
            that reads the same both ways is shuffled all the same.
        ratio: Shares of the groups, see `convzoo.layers.UnevenPointwiseConv2D`; every width of a block with this ratio
            must be a multiple of its sum.
        even_from: Blocks at least as wide as this have two equal groups and a shuffle, whatever `ratio` and `mixing`.
        even_by: What is wide, a block's "inputs" or its "outputs".
        second_shuffle: Whether the projection's outputs are shuffled too, with half as many groups as channels, as in
            the baseline that the authors of Seesaw-Net give for IGCV3; the code of IGCV3 itself has one shuffle.
        activation: After stem, depthwise convolutions and head.
        expand_activation: Whether the expansion has an activation too.
        se_ratio: Squeeze-and-excitation after the depthwise convolution, through this share of its channels; 0 for
            none. With activation="silu", expand_activation and an even_from above every width the blocks are those of
            the authors' nets for faces, but for the activation within the squeeze.
        include_top: False ends the network at the head's feature map, float [batch, h, w, 1280].
        features: True returns a dict of feature maps instead: "reduction_1", "reduction_2", ..., the last map at each
            resolution, and "head".
        dropout_rate: Dropout before the classifier.
        stem_strides: 2 as published for ImageNet, 1 for small pictures.
        padding, bn_momentum, bn_epsilon: See `convzoo.models.parts.Parts`.
        name: Name of the model.

    Returns:
        A `keras.Model` from float images [batch, height, width, channels] to float32 logits [batch, num_classes].

    Raises:
        ModelError: An unknown mixing, even_by or padding, or a ratio that does not divide a block's width.
    """
    if mixing not in ("shuffle", "share"):
        raise ModelError(f"mixing {mixing!r} is not known; choose shuffle or share")
    if even_by not in ("inputs", "outputs"):
        raise ModelError(f"even_by {even_by!r} is not known; choose inputs or outputs")
    parts = Parts(activation, padding, bn_momentum, bn_epsilon)
    images = keras.Input(input_shape, name="images")
    filters = round_filters(stem_filters, width_coefficient)
    x = parts.norm(parts.conv(images, "stem_conv", filters, 3, stem_strides), "stem")
    endpoints = Endpoints()
    index = 0
    for expansion, stage_filters, count, stage_strides in stages:
        filters = round_filters(stage_filters, width_coefficient)
        for repeat in range(count):
            strides = stage_strides if repeat == 0 else 1
            if strides != 1:
                endpoints.before_downsampling(x)
            even = (x.shape[-1] if even_by == "inputs" else filters) >= even_from
            x = _block(
                parts,
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
    endpoints.before_downsampling(x)
    filters = round_filters(HEAD_FILTERS, max(1.0, width_coefficient))
    x = parts.norm(parts.conv(x, "head_conv", filters), "head")

    def classifier(x):
        return parts.classifier(x, num_classes, dropout_rate)

    return endpoints.model(images, x, name, include_top, features, classifier)


def _block(parts, x, name, expansion, filters, strides, *, ratio, mixing, second_shuffle, expand_activation, se_ratio):
    """An inverted residual whose point-wise convolutions have groups."""
    shuffles = mixing == "shuffle" or ratio == ratio[::-1]
    inputs, width = x, expansion * x.shape[-1]
    x = parts.pointwise_groups(x, f"{name}_expand_conv", width, ratio)
    x = parts.norm(x, f"{name}_expand", activation=expand_activation)
    if shuffles:
        x = ChannelShuffle(2, name=f"{name}_shuffle")(x)
    x = parts.norm(parts.depthwise(x, f"{name}_depthwise_conv", 3, strides), f"{name}_depthwise")
    if se_ratio:
        x = parts.squeeze_excite(x, name, max(1, int(width * se_ratio)))
    x = parts.pointwise_groups(x, f"{name}_project_conv", filters, ratio, "given" if shuffles else "reversed")
    x = parts.norm(x, f"{name}_project", activation=False)
    if second_shuffle:
        x = ChannelShuffle(filters // 2, name=f"{name}_second_shuffle")(x)
    if strides == 1 and inputs.shape[-1] == filters:
        x = layers.Add(name=f"{name}_add")([x, inputs])
    return x


def _at_half_depth(stages):
    """The stages of the 0.5D networks: MobileNetV2's depths, which IGCV3 doubles."""
    return tuple((t, c, max(1, n // 2), s) for t, c, n, s in stages)


def _for_cifar(stages):
    """The stages for pictures of 32x32, which end at 8x8."""
    return tuple((t, c, n, 1 if c in (24, 160) else s) for t, c, n, s in stages)


def _of_table_3(top1, params, madds, params_100):
    """What table 3 reports of a network, and what it prints of its size."""
    note = f"CIFAR-100's classifier makes it {params_100:,} parameters"
    return Reported(top1, _CIFAR_10), Published(params, madds, _CIFAR_10, note)


_IGCV3 = "IGCV3: Interleaved Low-Rank Group Convolutions for Efficient Deep Neural Networks, arXiv 1806.00178"
_FIGURE_2 = "Seesaw-Net (arXiv 1905.03672), figure 2, read to 0.1 %"
_CIFAR_10 = f"{SEESAW_TABLE_3}: CIFAR-10"
# The start of a name: the paper and what makes the network.
_KINDS = {
    "seesawnet_shuffle": (SEESAW, {}),
    "seesawnet_share_v0": (SEESAW, {"mixing": "share", "even_from": 96, "even_by": "outputs"}),
    "seesawnet_share_v1": (SEESAW, {"mixing": "share"}),
    "igcv3": (_IGCV3, {"ratio": EVEN}),
}
# Name: parameters and multiply-adds, reported, published.
_NETWORKS = {
    "seesawnet_shuffle_1_0d": (
        3_644_184,
        360_950_976,
        Reported(72.9, SEESAW_TABLE_5),
        Published(3.6e6, 361e6, SEESAW_TABLE_5),
    ),
    "seesawnet_shuffle_0_5d": (2_728_024, 209_265_792, Reported(69.5, _FIGURE_2), Published(None, 210e6, _FIGURE_2)),
    "seesawnet_share_v0_1_0d": (3_548_952, 343_978_944, None, None),
    "seesawnet_share_v0_0_5d": (2_674_264, 200_422_272, None, None),
    "seesawnet_share_v1_1_0d": (3_644_184, 360_950_976, None, None),
    "seesawnet_share_v1_0_5d": (2_728_024, 209_265_792, None, None),
    "igcv3_1_0d": (
        3_491_688,
        312_970_176,
        Reported(72.2, SEESAW_TABLE_5),
        Published(3.5e6, 318e6, SEESAW_TABLE_5, "printed there as IGCV3 has it; the stage table gives 313 M"),
    ),
    "igcv3_0_5d": (2_647_912, 183_262_080, None, None),
    "seesawnet_shuffle_1_0d_cifar": (2_375_994, 181_105_152, *_of_table_3(95.28, 2.4e6, 181e6, 2_491_284)),
    "seesawnet_shuffle_0_5d_cifar": (1_459_834, 108_212_736, *_of_table_3(95.10, 1.5e6, 108e6, 1_575_124)),
    "seesawnet_share_v0_1_0d_cifar": (2_280_762, 175_010_304, *_of_table_3(95.36, 2.3e6, 175e6, 2_396_052)),
    "seesawnet_share_v0_0_5d_cifar": (1_406_074, 104_772_096, *_of_table_3(94.99, 1.4e6, 104e6, 1_521_364)),
    "seesawnet_share_v1_1_0d_cifar": (2_375_994, 181_105_152, *_of_table_3(95.20, 2.4e6, 181e6, 2_491_284)),
    "seesawnet_share_v1_0_5d_cifar": (1_459_834, 108_212_736, *_of_table_3(94.80, 1.5e6, 108e6, 1_575_124)),
    "igcv3_1_0d_cifar": (2_223_498, 166_064_640, *_of_table_3(95.01, 2.2e6, 166e6, 2_338_788)),
    "igcv3_0_5d_cifar": (1_379_722, 100_348_416, *_of_table_3(94.75, 1.4e6, 100e6, 1_495_012)),
}

for _name, (_params, _madds, _reported, _published) in _NETWORKS.items():
    _paper, _settings = next(kind for start, kind in _KINDS.items() if _name.startswith(start))
    _stages = _at_half_depth(STAGES) if "_0_5d" in _name else STAGES
    _small = _name.endswith("_cifar")
    if _small:
        _settings = {
            **_settings,
            "stages": _for_cifar(_stages),
            "stem_strides": 1,
            "dropout_rate": 0.5,
            # The baseline of Seesaw-Net's tables; on ImageNet the figure is that of IGCV3's own code.
            "second_shuffle": _name.startswith("igcv3"),
        }
    register_model(
        seesawnet,
        ModelInfo(
            name=_name,
            family="seesawnet",
            paper=_paper,
            params=_params,
            madds=_madds,
            input_size=32 if _small else 224,
            preprocessing=CIFAR10 if _small else IMAGENET_BILINEAR,
            reported=_reported,
            published=_published,
            num_classes=10 if _small else 1000,
        ),
        **{"stages": _stages, **_settings},
    )
