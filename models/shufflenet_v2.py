"""ShuffleNetV2 (arXiv 1807.11164), in the authors' and in torchvision's layout, and DRConv-ShuffleNetV2.

Three stages of blocks that convolve half of the channels and pass on the other half. The layouts differ in where the
halves are shuffled and in the widths of each stage's first block, so their weights are not interchangeable. In
DRConv-ShuffleNetV2 (arXiv 2003.12243) both 1x1 convolutions of every block's right branch are DRConvs.
"""

import itertools

import keras
from keras import layers

from convzoo.errors import ModelError
from convzoo.layers import ChannelShuffle, ChannelSplit
from convzoo.models.builder import NetworkBuilder
from convzoo.models.info import IMAGENET_BILINEAR, ModelInfo, Published, Reported
from convzoo.models.operators import DRConv, Operator
from convzoo.models.papers import DRCONV, DRCONV_ABSTRACT
from convzoo.models.registry import register_model

STEM_FILTERS, REPEATS = 24, (4, 8, 4)


def shufflenet_v2(
    *,
    num_classes: int,
    input_shape: tuple[int | None, int | None, int],
    widths: tuple[int, ...],
    repeats: tuple[int, ...] = REPEATS,
    head_filters: int = 1024,
    layout: str = "megvii",
    bias_at_ends: bool = False,
    operator: Operator | None = None,
    include_top: bool = True,
    features: bool = False,
    dropout_rate: float = 0.0,
    stem_strides: int = 2,
    padding: str = "symmetric",
    bn_momentum: float = 0.9,
    bn_epsilon: float = 1e-5,
    name: str = "shufflenet_v2",
) -> keras.Model:
    """Builds a ShuffleNetV2. See `convzoo.models.builder` for the arguments that all builders share.

    Args:
        widths: Channels of each stage; even numbers.
        repeats: Number of blocks of each stage.
        head_filters: Channels of the head's 1x1 convolution.
        layout: "megvii", the authors' code: blocks of stride 1 convolve the odd channels, and the left branch of a
            block of stride 2 keeps its width. "torchvision": every block ends in a shuffle, blocks of stride 1 convolve
            the second half, and both branches of a block of stride 2 end in half of its channels.
        bias_at_ends: Whether the convolutions of stem and head have a bias, as in the DRConv authors' code.
        stem_strides: 1 also removes the max-pooling.

    Raises:
        ModelError: The layout is unknown, a width is odd or, in the layout "megvii", not above the previous one, or the
            operator has no effect.

    Example:
        >>> shufflenet_v2(num_classes=10, input_shape=(64, 64, 3), widths=(48, 96, 192)).output_shape
        (None, 10)
    """
    if layout not in ("megvii", "torchvision"):
        raise ModelError(f"layout {layout!r} is unknown; choose megvii or torchvision")
    if any(width % 2 for width in widths):
        raise ModelError(f"widths {tuple(widths)} contain an odd number; a block convolves half of its channels")
    for before, width in itertools.pairwise((STEM_FILTERS, *widths)):
        if layout == "megvii" and width <= before:
            raise ModelError(
                f"width {width} of widths={tuple(widths)} is not above the {before} channels before it; increase it or "
                "use layout='torchvision'"
            )
    net = NetworkBuilder("relu", padding, bn_momentum, bn_epsilon, operator)
    images = keras.Input(input_shape, name="images")
    x = net.stem(images).conv(images, "stem_conv", STEM_FILTERS, 3, stem_strides, use_bias=bias_at_ends)
    x = net.norm(x, "stem")
    if stem_strides > 1:
        net.add_reduction(x)
        x = net.max_pool(x, "stem_pool")
    index = 0
    for filters, count in zip(widths, repeats, strict=True):
        for repeat in range(count):
            if repeat == 0:
                net.add_reduction(x)
                x = _downsampling_block(net, x, f"block{index}", filters, layout)
            else:
                x = _basic_block(net, x, f"block{index}", layout)
            index += 1
    net.add_reduction(x)
    x = net.norm(net.head(x).conv(x, "head_conv", head_filters, use_bias=bias_at_ends), "head")
    return net.model(images, x, name, num_classes, include_top, features, dropout_rate)


def _basic_block(net, x, name, layout):
    """A block of stride 1: half of the channels are passed on, the others go through the right branch."""
    channels = x.shape[-1]
    if layout == "megvii":
        # Moves the even channels before the odd ones.
        x = ChannelShuffle(channels // 2, name=f"{name}_shuffle")(x)
    identity, x = ChannelSplit((channels // 2, channels // 2), name=f"{name}_split")(x)
    x = _right_branch(net, x, name, channels // 2, channels // 2, 1)
    return _join(identity, x, name, layout)


def _downsampling_block(net, x, name, filters, layout):
    """A block of stride 2: all channels go through both branches."""
    left_filters = x.shape[-1] if layout == "megvii" else filters // 2
    left = net.depthwise(x, f"{name}_left_depthwise_conv", 3, 2)
    left = net.norm(left, f"{name}_left_depthwise", activation=False)
    left = net.norm(net.conv(left, f"{name}_left_project_conv", left_filters), f"{name}_left_project")
    right = _right_branch(net, x, name, filters // 2, filters - left_filters, 2)
    return _join(left, right, name, layout)


def _right_branch(net, x, name, width, filters, strides):
    """The branch whose convolutions an operator replaces."""
    block = net.block(x, name, filters)
    x = block.norm(block.conv(x, f"{name}_right_expand_conv", width), f"{name}_right_expand")
    x = block.mix(x, f"{name}_right")
    x = block.depthwise(x, f"{name}_right_depthwise_conv", 3, strides)
    x = block.norm(x, f"{name}_right_depthwise", activation=False)
    x = block.norm(block.conv(x, f"{name}_right_project_conv", filters), f"{name}_right_project")
    return block.mix_outputs(x, f"{name}_right")


def _join(left, right, name, layout):
    x = layers.Concatenate(name=f"{name}_join")([left, right])
    return ChannelShuffle(2, name=f"{name}_shuffle")(x) if layout == "torchvision" else x


_PAPER = "ShuffleNet V2: Practical Guidelines for Efficient CNN Architecture Design, arXiv 1807.11164"
_README = "the authors' README for their ShuffleNetV2 weights"
_NOTE = (
    "the released code's settings, 8 regions and 8 base kernels, give 50 M with the generated kernels, 43 M without; "
    "the authors' operation counter counts one multiply-add per generated weight, which gives 43.7 M, and 45.0 M with "
    "a mask per convolution; bank_size=4 gives 46.4 M; with a mask per convolution 4 regions and 8 base kernels would "
    "give 46.0 M, 8 regions and 2 base kernels 45.8 M; the paper's own settings are unknown to us"
)
# Channels of the stages.
_X0_5, _X1_0, _X1_5, _X2_0 = (48, 96, 192), (116, 232, 464), (176, 352, 704), (244, 488, 976)


def _shufflenet_v2(name, params, madds, top1, published, **arguments):
    reported = Reported(top1, _README)
    info = ModelInfo(name, "shufflenet_v2", _PAPER, params, madds, 224, IMAGENET_BILINEAR, reported, published)
    register_model(shufflenet_v2, info, **arguments)


def _drconv(name, params, madds, reported=None, published=None, **arguments):
    info = ModelInfo(name, "shufflenet_v2", DRCONV, params, madds, 224, IMAGENET_BILINEAR, reported, published)
    register_model(shufflenet_v2, info, bias_at_ends=True, operator=DRConv(regions=8, bank_size=8), **arguments)


_shufflenet_v2("shufflenet_v2_x0_5", 1_366_792, 40_476_448, 61.1, Published(1.4e6, 41e6, _README), widths=_X0_5)
_shufflenet_v2("shufflenet_v2_x1_0", 2_279_760, 145_814_296, 69.4, Published(2.3e6, 146e6, _README), widths=_X1_0)
_shufflenet_v2("shufflenet_v2_x1_5", 3_507_720, 298_970_656, 72.6, Published(3.5e6, 299e6, _README), widths=_X1_5)
# The authors use dropout for the widest network only.
_shufflenet_v2(
    "shufflenet_v2_x2_0",
    7_403_600,
    590_783_000,
    75.0,
    Published(7.4e6, 591e6, _README),
    widths=_X2_0,
    head_filters=2048,
    dropout_rate=0.2,
)

_drconv(
    "shufflenet_v2_drconv_x0_5",
    2_293_792,
    50_104_864,
    Reported(67.1, DRCONV_ABSTRACT),
    Published(None, 46e6, DRCONV_ABSTRACT, _NOTE),
    widths=_X0_5,
)
_drconv("shufflenet_v2_drconv_x1_0", 7_273_976, 193_469_400, widths=_X1_0)
_drconv("shufflenet_v2_drconv_x1_5", 14_778_656, 404_754_720, widths=_X1_5)
_drconv("shufflenet_v2_drconv_x2_0", 28_835_576, 790_299_352, widths=_X2_0, head_filters=2048, dropout_rate=0.2)
