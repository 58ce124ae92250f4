"""ShuffleNetV2 (arXiv 1807.11164), in the layout of its authors' code and in torchvision's, and DRConv-ShuffleNetV2.

Three stages of blocks that compute half of the channels and pass the other half on. The layouts differ in where the
halves are mixed, and in the widths of the first block: the same networks but for an order of channels, and not the same
weights. DRConv (arXiv 2003.12243) replaces both 1x1 convolutions of every block's right branch.
"""

import keras
from keras import layers

from convzoo.layers import ChannelShuffle, ChannelSplit
from convzoo.models.errors import ModelError
from convzoo.models.info import ModelInfo, Published, Reported
from convzoo.models.papers import DRCONV, DRCONV_ABSTRACT
from convzoo.models.parts import Endpoints, Parts
from convzoo.models.preprocessing import IMAGENET_BILINEAR
from convzoo.models.regions import Guides
from convzoo.models.registry import register_model

STEM_FILTERS, REPEATS = 24, (4, 8, 4)


def shufflenet_v2(
    *,
    num_classes: int,
    input_shape: tuple[int | None, int | None, int],
    widths: tuple[int, int, int],
    head_filters: int = 1024,
    layout: str = "megvii",
    regions: int | None = None,
    bank_size: int = 8,
    generator: str = "shared_bank",
    bias_at_ends: bool = False,
    include_top: bool = True,
    features: bool = False,
    dropout_rate: float = 0.0,
    stem_strides: int = 2,
    padding: str = "symmetric",
    bn_momentum: float = 0.9,
    bn_epsilon: float = 1e-5,
    name: str = "shufflenet_v2",
) -> keras.Model:
    """Builds a ShuffleNetV2.

    Args:
        num_classes: Width of the logits.
        input_shape: Height, width and channels of one image; height and width may be None.
        widths: Channels of each stage; even numbers.
        head_filters: Channels of the head's 1x1 convolution.
        layout: "megvii", the authors' code: blocks of stride 1 compute the odd channels, and the left branch of a block
            of stride 2 keeps its width. "torchvision": every block ends in a shuffle, blocks of stride 1 compute the
            second half, and both branches of a block of stride 2 end in half of its channels.
        regions, bank_size, generator: Of the region-aware convolutions, see `convzoo.models.regions.Guides`; without
            regions the convolutions are plain.
        bias_at_ends: Whether the stem's and the head's convolutions have a bias, as in the code of DRConv.
        include_top: False ends the network at the head's feature map, float [batch, h, w, head_filters].
        features: True returns a dict of feature maps instead: "reduction_1" .. "reduction_5", the last map at each
            resolution, and "head".
        dropout_rate: Dropout before the classifier.
        stem_strides: 2 as published; 1 for small pictures (32x32): stride 1 and no max-pooling.
        padding, bn_momentum, bn_epsilon: See `convzoo.models.parts.Parts`.
        name: Name of the model.

    Returns:
        A `keras.Model` from float images [batch, height, width, channels] to float32 logits [batch, num_classes].

    Raises:
        ModelError: An unknown layout, padding or generator, or an odd width.
    """
    if layout not in ("megvii", "torchvision"):
        raise ModelError(f"layout {layout!r} is not known; choose megvii or torchvision")
    if any(width % 2 for width in widths):
        raise ModelError(f"widths {tuple(widths)} have an odd one; a block computes half of its channels")
    parts = Parts("relu", padding, bn_momentum, bn_epsilon)
    guides = Guides(regions, bank_size, generator)
    endpoints = Endpoints()
    images = keras.Input(input_shape, name="images")
    x = parts.conv(images, "stem_conv", STEM_FILTERS, 3, stem_strides, use_bias=bias_at_ends)
    x = parts.norm(x, "stem")
    if stem_strides > 1:
        endpoints.before_downsampling(x)
        x = parts.max_pool(x, "stem_pool")
    index = 0
    for filters, count in zip(widths, REPEATS, strict=True):
        for repeat in range(count):
            if repeat == 0:
                endpoints.before_downsampling(x)
                x = _reduce(parts, guides, x, f"block{index}", filters, layout)
            else:
                x = _keep(parts, guides, x, f"block{index}", layout)
            index += 1
    endpoints.before_downsampling(x)
    x = parts.norm(parts.conv(x, "head_conv", head_filters, use_bias=bias_at_ends), "head")

    def classifier(x):
        return parts.classifier(x, num_classes, dropout_rate)

    return endpoints.model(images, x, name, include_top, features, classifier)


def _keep(parts, guides, x, name, layout):
    """A block of stride 1: one half of the channels passes, the other goes through the right branch."""
    channels = x.shape[-1]
    if layout == "megvii":
        # The even channels first, then the odd ones.
        x = ChannelShuffle(channels // 2, name=f"{name}_shuffle")(x)
    passed, x = ChannelSplit((channels // 2, channels // 2), name=f"{name}_split")(x)
    x = _right(parts, guides, x, name, channels // 2, channels // 2, 1)
    return _join(passed, x, name, layout)


def _reduce(parts, guides, x, name, filters, layout):
    """A block of stride 2: all channels go through both branches."""
    kept = x.shape[-1] if layout == "megvii" else filters // 2
    left = parts.depthwise(x, f"{name}_left_depthwise_conv", 3, 2)
    left = parts.norm(left, f"{name}_left_depthwise", activation=False)
    left = parts.norm(parts.conv(left, f"{name}_left_project_conv", kept), f"{name}_left_project")
    right = _right(parts, guides, x, name, filters // 2, filters - kept, 2)
    return _join(left, right, name, layout)


def _right(parts, guides, x, name, width, filters, strides):
    guide = guides(x, name)
    x = parts.norm(parts.conv(x, f"{name}_right_expand_conv", width, guide=guide), f"{name}_right_expand")
    x = parts.depthwise(x, f"{name}_right_depthwise_conv", 3, strides)
    x = parts.norm(x, f"{name}_right_depthwise", activation=False)
    x = parts.conv(x, f"{name}_right_project_conv", filters, guide=guide)
    return parts.norm(x, f"{name}_right_project")


def _join(left, right, name, layout):
    x = layers.Concatenate(name=f"{name}_join")([left, right])
    return ChannelShuffle(2, name=f"{name}_shuffle")(x) if layout == "torchvision" else x


_README = "the authors' README for their ShuffleNetV2 weights"
# Suffix: widths, head, parameters and multiply-adds of the plain network and of the region-aware one, reported top-1,
# printed parameters and multiply-adds.
_WIDTHS = {
    "x0_5": ((48, 96, 192), 1024, (1_366_792, 40_476_448), (2_293_792, 50_104_864), 61.1, 1.4e6, 41e6),
    "x1_0": ((116, 232, 464), 1024, (2_279_760, 145_814_296), (7_273_976, 193_469_400), 69.4, 2.3e6, 146e6),
    "x1_5": ((176, 352, 704), 1024, (3_507_720, 298_970_656), (14_778_656, 404_754_720), 72.6, 3.5e6, 299e6),
    "x2_0": ((244, 488, 976), 2048, (7_403_600, 590_783_000), (28_835_576, 790_299_352), 75.0, 7.4e6, 591e6),
}
_REGION_AWARE_REPORTED = {"x0_5": Reported(67.1, DRCONV_ABSTRACT)}
_REGION_AWARE_PUBLISHED = {
    "x0_5": Published(
        None,
        46e6,
        DRCONV_ABSTRACT,
        "the settings of the released code, 8 regions and 8 base kernels, give 50 M with the generated kernels and "
        "43 M without; bank_size=4 gives 46.4 M; with a mask for each convolution, which the released code has not, 4 "
        "regions and 8 base kernels would give 46.0 M, 8 and 2 45.8 M; the paper's own settings are not known to us",
    )
}

for _suffix, (_widths, _head, _plain, _region_aware, _top1, *_printed) in _WIDTHS.items():
    _network = {
        "widths": _widths,
        "head_filters": _head,
        # As the authors of ShuffleNetV2 do, for the widest alone.
        "dropout_rate": 0.2 if _suffix == "x2_0" else 0.0,
    }
    register_model(
        shufflenet_v2,
        ModelInfo(
            name=f"shufflenet_v2_{_suffix}",
            family="shufflenet_v2",
            paper="ShuffleNet V2: Practical Guidelines for Efficient CNN Architecture Design, arXiv 1807.11164",
            params=_plain[0],
            madds=_plain[1],
            input_size=224,
            preprocessing=IMAGENET_BILINEAR,
            reported=Reported(_top1, _README),
            published=Published(*_printed, _README),
        ),
        **_network,
    )
    register_model(
        shufflenet_v2,
        ModelInfo(
            name=f"shufflenet_v2_drconv_{_suffix}",
            family="shufflenet_v2",
            paper=DRCONV,
            params=_region_aware[0],
            madds=_region_aware[1],
            input_size=224,
            preprocessing=IMAGENET_BILINEAR,
            reported=_REGION_AWARE_REPORTED.get(_suffix),
            published=_REGION_AWARE_PUBLISHED.get(_suffix),
        ),
        regions=8,
        bias_at_ends=True,
        **_network,
    )
