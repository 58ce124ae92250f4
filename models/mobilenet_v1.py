"""MobileNetV1 (arXiv 1704.04861), CondConv-MobileNetV1 (arXiv 1904.04971, section 4.1) and DRConv-MobileNetV1.

A 3x3 stem and thirteen separable blocks (3x3 depthwise and 1x1 point-wise convolution, each with normalization and
ReLU6). In a CondConv block one routing vector, computed from the block's input, mixes the experts of both convolutions.
The DRConv paper (arXiv 2003.12243) does not describe the placement in MobileNetV1. Here every point-wise convolution is
a DRConv with a mask of the block's input, as in the authors' ShuffleNetV2.
"""

import keras

from convzoo.models.blocks import ConvBlockBuilder
from convzoo.models.info import ModelInfo, Published, Reported
from convzoo.models.papers import CONDCONV, CONDCONV_TABLE_1, CONDCONV_TABLE_4, CONDCONV_WIDTHS, DRCONV
from convzoo.models.region_masks import RegionMaskBuilder
from convzoo.models.registry import register_model
from convzoo.models.routing import RoutingBuilder, first_conditional_index

STEM_FILTERS = 32
# Output channels and strides of each separable block.
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
    """Builds a MobileNetV1. See `convzoo.models.blocks` for the arguments that all builders share.

    Args:
        blocks: Output channels, before scaling, and strides of each separable block.
        width_coefficient: Factor on the channel counts (alpha in the paper), which are rounded down.
        first_conditional_block: CondConv's table 4 counts the stem as layer 1, so its layer n is block n - 2.

    Raises:
        ModelError: A convolution would be conditional and region-aware.

    Example:
        >>> mobilenet_v1(num_classes=10, input_shape=(32, 32, 3), width_coefficient=0.25).output_shape
        (None, 10)
    """
    block = ConvBlockBuilder("relu6", padding, bn_momentum, bn_epsilon, num_experts)
    routing_builder = RoutingBuilder(routing, num_experts, expert_dropout)
    mask_builder = RegionMaskBuilder(regions, bank_size, generator)
    first = first_conditional_index(first_conditional_block, len(blocks))

    def scaled(filters):
        return max(1, int(filters * width_coefficient))

    images = keras.Input(input_shape, name="images")
    weights = routing_builder(images, "stem") if first == -1 else None
    x = block.norm(block.conv(images, "stem_conv", scaled(STEM_FILTERS), 3, stem_strides, routing=weights), "stem")
    for index, (filters, strides) in enumerate(blocks):
        if strides != 1:
            block.add_reduction(x)
        weights = routing_builder(x, f"block{index}") if index >= first else None
        mask = mask_builder(x, f"block{index}")
        x = block.depthwise(x, f"block{index}_depthwise_conv", 3, strides, routing=weights)
        x = block.norm(x, f"block{index}_depthwise")
        x = block.conv(x, f"block{index}_pointwise_conv", scaled(filters), routing=weights, mask=mask)
        x = block.norm(x, f"block{index}_pointwise")
    block.add_reduction(x)
    classifier_routing = routing_builder if conditional_classifier else None
    return block.model(images, x, name, num_classes, include_top, features, dropout_rate, classifier_routing)


_PAPER = "MobileNets: Efficient Convolutional Neural Networks for Mobile Vision Applications, arXiv 1704.04861"
_README = "TensorFlow's README for its MobileNetV1 weights"
_NOTE = "the stage table has 325 M at 224 pixels, consistent with the other three widths"
# Table 4's layers 7 (the sixth separable block) to 14, and the classifier, layer 15.
_CONDCONV = {"first_conditional_block": 5, "conditional_classifier": True, "num_experts": 8}


def _register(name, width, params, madds, reported=None, published=None, paper=_PAPER, **arguments):
    info = ModelInfo(name, "mobilenet_v1", paper, params, madds, reported=reported, published=published)
    register_model(mobilenet_v1, info, width_coefficient=width, **arguments)


_TABLE_1, _TABLE_4 = CONDCONV_TABLE_1, CONDCONV_TABLE_4
_register("mobilenet_v1_x0_25", 0.25, 470_072, 41_030_272, Reported(50.0, _TABLE_4), Published(None, 41.2e6, _TABLE_4))
_register(
    "mobilenet_v1_x0_5", 0.5, 1_331_592, 149_497_088, Reported(63.8, CONDCONV_WIDTHS), Published(1.34e6, 150e6, _README)
)
_register(
    "mobilenet_v1_x0_75",
    0.75,
    2_585_560,
    325_400_448,
    Reported(68.4, _README),
    Published(2.59e6, 317e6, _README, _NOTE),
)
_register("mobilenet_v1_x1_0", 1.0, 4_231_976, 568_740_352, Reported(71.9, _TABLE_1), Published(None, 567e6, _TABLE_1))

_register("mobilenet_v1_condconv_x0_25", 0.25, 3_667_352, 44_674_688, paper=CONDCONV, **_CONDCONV)
_register("mobilenet_v1_condconv_x0_5", 0.5, 10_356_904, 159_800_576, paper=CONDCONV, **_CONDCONV)
_register("mobilenet_v1_condconv_x0_75", 0.75, 20_076_728, 345_377_664, paper=CONDCONV, **_CONDCONV)
_register(
    "mobilenet_v1_condconv_x1_0",
    1.0,
    32_826_824,
    601_405_952,
    Reported(73.7, _TABLE_1),
    Published(None, 600e6, _TABLE_1),
    paper=CONDCONV,
    **_CONDCONV,
)

_register("mobilenet_v1_drconv_x0_25", 0.25, 1_933_752, 59_789_440, paper=DRCONV, regions=8)
_register("mobilenet_v1_drconv_x0_5", 0.5, 7_005_256, 212_132_096, paper=DRCONV, regions=8)
_register("mobilenet_v1_drconv_x0_75", 0.75, 15_216_344, 457_027_968, paper=DRCONV, regions=8)
_register("mobilenet_v1_drconv_x1_0", 1.0, 26_567_016, 794_477_056, paper=DRCONV, regions=8)
