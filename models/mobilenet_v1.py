"""MobileNetV1 (arXiv 1704.04861), CondConv-MobileNetV1 (arXiv 1904.04971, section 4.1) and DRConv-MobileNetV1.

Thirteen separable blocks (3x3 depthwise convolution, 1x1 point-wise convolution, each with normalisation and ReLU6)
after a 3x3 stem. In a conditional block one routing vector, computed from the block's input, mixes the experts of both.
DRConv (arXiv 2003.12243) names the network without its placement: here it is every point-wise convolution, with a mask
of the block's input, as in its authors' ShuffleNetV2.
"""

import keras

from convzoo.models.info import ModelInfo, Published, Reported
from convzoo.models.papers import CONDCONV, CONDCONV_ABLATIONS, CONDCONV_TABLE_1, CONDCONV_WIDTHS, DRCONV
from convzoo.models.parts import Endpoints, Parts
from convzoo.models.preprocessing import IMAGENET
from convzoo.models.regions import Guides
from convzoo.models.registry import register_model
from convzoo.models.routing import Router, first_block

STEM_FILTERS = 32
# Output channels and stride of each separable block.
BLOCKS = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1))


def mobilenet_v1(
    *,
    num_classes: int,
    input_shape: tuple[int | None, int | None, int],
    include_top: bool = True,
    features: bool = False,
    blocks: tuple[tuple[int, int], ...] = BLOCKS,
    width_coefficient: float = 1.0,
    num_experts: int = 8,
    first_conditional_block: int | None = None,
    conditional_classifier: bool = False,
    routing: str = "one_layer",
    expert_dropout: float = 0.0,
    regions: int | None = None,
    bank_size: int = 8,
    generator: str = "shared_bank",
    dropout_rate: float = 0.0,
    stem_strides: int = 2,
    padding: str = "symmetric",
    bn_momentum: float = 0.9,
    bn_epsilon: float = 1e-5,
    name: str = "mobilenet_v1",
) -> keras.Model:
    """Builds a MobileNetV1.

    Args:
        num_classes: Width of the logits.
        input_shape: Height, width and channels of one image; height and width may be None.
        include_top: False ends the network at the last block's output, float [batch, h, w, channels].
        features: True returns a dict of feature maps instead: "reduction_1" .. "reduction_5", the last block's output
            at each resolution, and "head", the last of them again.
        blocks: Output channels, before scaling, and stride of each separable block.
        width_coefficient: Factor on every channel count (alpha in the paper), rounded down.
        num_experts: Experts of each conditional layer (n in CondConv).
        first_conditional_block: Blocks from this one on are conditional, counted from 0 as in the layers' names; -1
            makes the stem conditional too, None no block. CondConv's table 4 counts the stem as layer 1, so its layer
            n is block n - 2.
        conditional_classifier: Whether the classifier is conditional.
        routing, expert_dropout: See `convzoo.models.routing.Router`.
        regions, bank_size, generator: Of region-aware point-wise convolutions, see `convzoo.models.regions.Guides`;
            without regions they are not region-aware.
        dropout_rate: Dropout before the classifier.
        stem_strides: 2 as published; 1 keeps small pictures (32x32) from vanishing.
        padding, bn_momentum, bn_epsilon: See `convzoo.models.parts.Parts`.
        name: Name of the model.

    Returns:
        A `keras.Model` from float images [batch, height, width, channels] to float32 logits [batch, num_classes].

    Raises:
        ModelError: An unknown routing, padding or generator, a first conditional block that there is not, or a
            convolution that would be conditional and region-aware.
    """
    parts = Parts("relu6", padding, bn_momentum, bn_epsilon, num_experts)
    router = Router(routing, num_experts, expert_dropout)
    guides = Guides(regions, bank_size, generator)
    first = first_block(first_conditional_block, len(blocks))

    def scaled(filters):
        return max(1, int(filters * width_coefficient))

    images = keras.Input(input_shape, name="images")
    stem_routing = router(images, "stem") if first == -1 else None
    x = parts.norm(parts.conv(images, "stem_conv", scaled(STEM_FILTERS), 3, stem_strides, routing=stem_routing), "stem")
    endpoints = Endpoints()
    for index, (filters, strides) in enumerate(blocks):
        if strides != 1:
            endpoints.before_downsampling(x)
        weights = router(x, f"block{index}") if index >= first else None
        guide = guides(x, f"block{index}")
        x = parts.depthwise(x, f"block{index}_depthwise_conv", 3, strides, routing=weights)
        x = parts.norm(x, f"block{index}_depthwise")
        x = parts.conv(x, f"block{index}_pointwise_conv", scaled(filters), routing=weights, guide=guide)
        x = parts.norm(x, f"block{index}_pointwise")
    endpoints.before_downsampling(x)

    def classifier(x):
        return parts.classifier(x, num_classes, dropout_rate, router if conditional_classifier else None)

    return endpoints.model(images, x, name, include_top, features, classifier)


_PAPER = "MobileNets: Efficient Convolutional Neural Networks for Mobile Vision Applications, arXiv 1704.04861"
_SLIM = "TensorFlow's README for its MobileNetV1 weights"
# Suffix: width, parameters and multiply-adds of the static network and of the conditional one, the static network's
# reported top-1, what was printed of its size.
_WIDTHS = {
    "x0_25": (
        0.25,
        (470_072, 41_030_272),
        (3_667_352, 44_674_688),
        Reported(50.0, CONDCONV_ABLATIONS),
        Published(None, 41.2e6, CONDCONV_ABLATIONS),
    ),
    "x0_5": (
        0.5,
        (1_331_592, 149_497_088),
        (10_356_904, 159_800_576),
        Reported(63.8, CONDCONV_WIDTHS),
        Published(1.34e6, 150e6, _SLIM),
    ),
    "x0_75": (
        0.75,
        (2_585_560, 325_400_448),
        (20_076_728, 345_377_664),
        Reported(68.4, _SLIM),
        Published(
            2.59e6, 317e6, _SLIM, "the stage table gives 325 M at 224 pixels, in line with the other three widths"
        ),
    ),
    "x1_0": (
        1.0,
        (4_231_976, 568_740_352),
        (32_826_824, 601_405_952),
        Reported(71.9, CONDCONV_TABLE_1),
        Published(None, 567e6, CONDCONV_TABLE_1),
    ),
}
_CONDITIONAL_REPORTED = {"x1_0": Reported(73.7, CONDCONV_TABLE_1)}
_CONDITIONAL_PUBLISHED = {"x1_0": Published(None, 600e6, CONDCONV_TABLE_1)}

for _suffix, (_width, _static, _conditional, _reported, _published) in _WIDTHS.items():
    register_model(
        mobilenet_v1,
        ModelInfo(
            name=f"mobilenet_v1_{_suffix}",
            family="mobilenet_v1",
            paper=_PAPER,
            params=_static[0],
            madds=_static[1],
            input_size=224,
            preprocessing=IMAGENET,
            reported=_reported,
            published=_published,
        ),
        width_coefficient=_width,
    )
    register_model(
        mobilenet_v1,
        ModelInfo(
            name=f"mobilenet_v1_condconv_{_suffix}",
            family="mobilenet_v1",
            paper=CONDCONV,
            params=_conditional[0],
            madds=_conditional[1],
            input_size=224,
            preprocessing=IMAGENET,
            reported=_CONDITIONAL_REPORTED.get(_suffix),
            published=_CONDITIONAL_PUBLISHED.get(_suffix),
        ),
        width_coefficient=_width,
        # The paper's layer 7, the sixth separable block, and its layer 15.
        first_conditional_block=5,
        conditional_classifier=True,
        num_experts=8,
    )

# Suffix: parameters and multiply-adds of the region-aware network.
_REGION_AWARE = {
    "x0_25": (1_933_752, 59_789_440),
    "x0_5": (7_005_256, 212_132_096),
    "x0_75": (15_216_344, 457_027_968),
    "x1_0": (26_567_016, 794_477_056),
}
for _suffix, (_params, _madds) in _REGION_AWARE.items():
    register_model(
        mobilenet_v1,
        ModelInfo(
            name=f"mobilenet_v1_drconv_{_suffix}",
            family="mobilenet_v1",
            paper=DRCONV,
            params=_params,
            madds=_madds,
            input_size=224,
            preprocessing=IMAGENET,
        ),
        width_coefficient=_WIDTHS[_suffix][0],
        regions=8,
    )
