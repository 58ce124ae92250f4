"""MobileNetV1 (arXiv 1704.04861), CondConv-MobileNetV1 (arXiv 1904.04971, section 4.1) and DRConv-MobileNetV1.

A 3x3 stem and thirteen separable blocks (3x3 depthwise and 1x1 point-wise convolution, each with normalization and
ReLU6). Padding and epsilon are TensorFlow's, in which the authors of MobileNet and CondConv trained; weights from
PyTorch need padding="symmetric" and bn_epsilon=1e-5.

The DRConv paper (arXiv 2003.12243) does not describe the placement in MobileNetV1. Here every point-wise convolution is
a DRConv with a mask of the block's input, as in the authors' ShuffleNetV2. `mask_per="layer"` makes it a mask of the
convolution's own input.
"""

import keras

from convzoo.models.builder import NetworkBuilder
from convzoo.models.info import ModelInfo, Published, Reported
from convzoo.models.operators import CondConv, DRConv, Operator
from convzoo.models.papers import CONDCONV, CONDCONV_TABLE_1, CONDCONV_TABLE_4, CONDCONV_WIDTHS, DRCONV
from convzoo.models.registry import register_model

STEM_FILTERS = 32
# Output channels and strides of each separable block.
BLOCKS = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1))


def mobilenet_v1(
    *,
    num_classes: int,
    input_shape: tuple[int | None, int | None, int],
    blocks: tuple[tuple[int, int], ...] = BLOCKS,
    width_coefficient: float = 1.0,
    operator: Operator | None = None,
    include_top: bool = True,
    features: bool = False,
    dropout_rate: float = 0.0,
    stem_strides: int = 2,
    padding: str = "same",
    bn_momentum: float = 0.9,
    bn_epsilon: float = 1e-3,
    name: str = "mobilenet_v1",
) -> keras.Model:
    """Builds a MobileNetV1. See `convzoo.models.builder` for the arguments that all builders share.

    Args:
        blocks: Output channels, before scaling, and strides of each separable block.
        width_coefficient: Factor on the channel counts (alpha in the paper), which are rounded down.

    Raises:
        ModelError: The operator has no effect.

    Example:
        >>> mobilenet_v1(num_classes=10, input_shape=(32, 32, 3), width_coefficient=0.25).output_shape
        (None, 10)
    """
    net = NetworkBuilder("relu6", padding, bn_momentum, bn_epsilon, operator)

    def scaled(filters):
        return max(1, int(filters * width_coefficient))

    images = keras.Input(input_shape, name="images")
    x = net.norm(net.stem(images).conv(images, "stem_conv", scaled(STEM_FILTERS), 3, stem_strides), "stem")
    for index, (filters, strides) in enumerate(blocks):
        if strides != 1:
            net.add_reduction(x)
        prefix, filters = f"block{index}", scaled(filters)
        block = net.block(x, prefix, filters)
        x = block.norm(block.depthwise(x, f"{prefix}_depthwise_conv", 3, strides), f"{prefix}_depthwise")
        x = block.norm(block.conv(x, f"{prefix}_pointwise_conv", filters), f"{prefix}_pointwise")
        x = block.mix(x, prefix)
    net.add_reduction(x)
    return net.model(images, x, name, num_classes, include_top, features, dropout_rate)


_PAPER = "MobileNets: Efficient Convolutional Neural Networks for Mobile Vision Applications, arXiv 1704.04861"
_README = "TensorFlow's README for its MobileNetV1 weights"
_NOTE = "the stage table has 325 M at 224 pixels, consistent with the other three widths"
# CondConv's table 4 counts the stem as layer 1. Its layers 7 to 14 are blocks 5 to 12; the classifier is layer 15.
_CONDCONV = CondConv(num_experts=8, first_block=5, classifier=True)


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

_register("mobilenet_v1_condconv_x0_25", 0.25, 3_667_352, 44_674_688, paper=CONDCONV, operator=_CONDCONV)
_register("mobilenet_v1_condconv_x0_5", 0.5, 10_356_904, 159_800_576, paper=CONDCONV, operator=_CONDCONV)
_register("mobilenet_v1_condconv_x0_75", 0.75, 20_076_728, 345_377_664, paper=CONDCONV, operator=_CONDCONV)
_register(
    "mobilenet_v1_condconv_x1_0",
    1.0,
    32_826_824,
    601_405_952,
    Reported(73.7, _TABLE_1),
    Published(None, 600e6, _TABLE_1),
    paper=CONDCONV,
    operator=_CONDCONV,
)

_register("mobilenet_v1_drconv_x0_25", 0.25, 1_933_752, 59_789_440, paper=DRCONV, operator=DRConv(regions=8))
_register("mobilenet_v1_drconv_x0_5", 0.5, 7_005_256, 212_132_096, paper=DRCONV, operator=DRConv(regions=8))
_register("mobilenet_v1_drconv_x0_75", 0.75, 15_216_344, 457_027_968, paper=DRCONV, operator=DRConv(regions=8))
_register("mobilenet_v1_drconv_x1_0", 1.0, 26_567_016, 794_477_056, paper=DRCONV, operator=DRConv(regions=8))
