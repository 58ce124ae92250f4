"""ResNet (arXiv 1512.03385), CondConv-ResNet-50 (arXiv 1904.04971) and LeanResNet (arXiv 1904.06952, 1910.13157).

A 7x7 stem, max-pooling and four stages of residual blocks. A bottleneck has its stride in the 3x3 convolution. In a
CondConv block one routing vector, computed from the block's input, mixes the experts of the branch's two or three
convolutions; the shortcut's convolution is static.

In a LeanResNet every 3x3 convolution of a block is lean, strided ones and those that change the width included. The
stem, the 1x1 convolutions of shortcuts and bottlenecks, and the classifier are those of ResNet. The papers' own layouts
are unknown to us; the parameter counts follow from this rule.
"""

import keras
from keras import layers

from convzoo.errors import ModelError
from convzoo.models.blocks import ConvBlockBuilder
from convzoo.models.info import CIFAR, ModelInfo, Published, Reported
from convzoo.models.lean import StencilSequence
from convzoo.models.papers import CONDCONV, CONDCONV_TABLE_1, LEAN
from convzoo.models.registry import register_model
from convzoo.models.routing import RoutingBuilder, first_conditional_index

STEM_FILTERS = 64
# Output channels of a bottleneck block as a multiple of those of its 3x3 convolution.
EXPANSION = 4


def resnet(
    *,
    num_classes: int,
    input_shape: tuple[int | None, int | None, int],
    repeats: tuple[int, ...],
    bottleneck: bool,
    include_top: bool = True,
    features: bool = False,
    width_coefficient: float = 1.0,
    num_experts: int = 8,
    first_conditional_block: int | None = None,
    conditional_classifier: bool = False,
    routing: str = "one_layer",
    expert_dropout: float = 0.0,
    stencil: str | None = None,
    group_size: int | None = 1,
    symmetric_step: bool = False,
    dropout_rate: float = 0.0,
    stem_strides: int = 2,
    padding: str = "symmetric",
    bn_momentum: float = 0.9,
    bn_epsilon: float = 1e-5,
    name: str = "resnet",
) -> keras.Model:
    """Builds a ResNet. See `convzoo.models.blocks` for the arguments that all builders share.

    Args:
        repeats: Number of blocks per stage. The channels double from stage to stage, from 64.
        bottleneck: Whether a block has 1x1, 3x3 and 1x1 convolutions, or two 3x3 convolutions.
        first_conditional_block: The stem cannot be conditional.
        expert_dropout: CondConv uses it in ResNet-50.
        stencil, group_size: Settings of the lean convolutions, see `convzoo.models.lean.StencilSequence`; stencil=None
            builds dense convolutions.
        symmetric_step: Whether lean blocks that keep resolution and width compute x - K^T act(norm(K x)), with one
            convolution K and its adjoint instead of two convolutions. This is the authors' earlier code; whether the
            paper does so is unknown to us. Not for bottlenecks.
        stem_strides: 1 builds a 3x3 stem without max-pooling.

    Raises:
        ModelError: A lean block would be conditional, or symmetric_step is set for bottlenecks or without a stencil.

    Example:
        >>> resnet(num_classes=10, input_shape=(32, 32, 3), repeats=(1, 1), bottleneck=False).output_shape
        (None, 10)
    """
    if symmetric_step and (bottleneck or stencil is None):
        raise ModelError("symmetric_step is for lean blocks of two 3x3 convolutions; remove it, or set stencil")
    block = ConvBlockBuilder("relu", padding, bn_momentum, bn_epsilon, num_experts)
    routing_builder = RoutingBuilder(routing, num_experts, expert_dropout)
    first = first_conditional_index(first_conditional_block, sum(repeats), lowest=0)
    stencils = StencilSequence(stencil, group_size)
    images = keras.Input(input_shape, name="images")
    stem_filters = int(STEM_FILTERS * width_coefficient)
    x = block.norm(block.conv(images, "stem_conv", stem_filters, 7 if stem_strides > 1 else 3, stem_strides), "stem")
    if stem_strides > 1:
        block.add_reduction(x)
        x = block.max_pool(x, "stem_pool")
    index = 0
    for stage, count in enumerate(repeats):
        filters = stem_filters * 2**stage
        for repeat in range(count):
            strides = 2 if stage and not repeat else 1
            if strides > 1:
                block.add_reduction(x)
            weights = routing_builder(x, f"block{index}") if index >= first else None
            if symmetric_step and weights is None and strides == 1 and x.shape[-1] == filters:
                step = block.adjoint_pair(x, f"block{index}", stencils())
                x = layers.Subtract(name=f"block{index}_subtract")([x, step])
            else:
                x = _residual_block(block, x, f"block{index}", filters, strides, bottleneck, weights, stencils)
            index += 1
    block.add_reduction(x)
    classifier_routing = routing_builder if conditional_classifier else None
    return block.model(images, x, name, num_classes, include_top, features, dropout_rate, classifier_routing)


def _residual_block(block, x, name, filters, strides, bottleneck, routing, stencils):
    inputs = x
    # (filters, kernel size, strides) of the branch's convolutions.
    if bottleneck:
        branch = ((filters, 1, 1), (filters, 3, strides), (filters * EXPANSION, 1, 1))
    else:
        branch = ((filters, 3, strides), (filters, 3, 1))
    for number, (width, kernel_size, stride) in enumerate(branch, start=1):
        stencil = stencils() if kernel_size == 3 else None
        x = block.conv(x, f"{name}_{number}_conv", width, kernel_size, stride, routing=routing, stencil=stencil)
        x = block.norm(x, f"{name}_{number}", activation=number < len(branch))
    if strides > 1 or inputs.shape[-1] != x.shape[-1]:
        inputs = block.conv(inputs, f"{name}_shortcut_conv", x.shape[-1], 1, strides)
        inputs = block.norm(inputs, f"{name}_shortcut", activation=False)
    return block.activate(layers.Add(name=f"{name}_add")([x, inputs]), name)


_PAPER = "Deep Residual Learning for Image Recognition, arXiv 1512.03385"
_TORCHVISION = "torchvision's IMAGENET1K_V1 weights"
# Repeats and bottleneck by the number of layers.
_DEPTHS = {"18": ((2, 2, 2, 2), False), "34": ((3, 4, 6, 3), False), "50": ((3, 4, 6, 3), True)}
# The stencil of 5 points is LeanResNet's "4-point stencil", which does not count the center.
_LEAN = {"stencil": "5-point"}
_SMALL_IMAGES = {"stem_strides": 1}


def _register(name, depth, paper, params, madds, info=None, **arguments):
    repeats, bottleneck = _DEPTHS[depth]
    info = ModelInfo(name, "resnet", paper, params, madds, **(info or {}))
    register_model(resnet, info, repeats=repeats, bottleneck=bottleneck, **arguments)


def _sizes(top1, params, madds, source):
    return {"reported": Reported(top1, source), "published": Published(params, madds, source)}


_register("resnet18", "18", _PAPER, 11_689_512, 1_814_073_344, _sizes(69.758, 11_689_512, 1.81e9, _TORCHVISION))
_register("resnet34", "34", _PAPER, 21_797_672, 3_663_761_408, _sizes(73.314, 21_797_672, 3.66e9, _TORCHVISION))
_register("resnet50", "50", _PAPER, 25_557_032, 4_089_184_256, _sizes(77.7, None, 4093e6, CONDCONV_TABLE_1))
_register(
    "resnet50_condconv",
    "50",
    CONDCONV,
    129_872_800,
    4_208_386_048,
    _sizes(78.6, None, 4213e6, CONDCONV_TABLE_1),
    first_conditional_block=13,  # the last three of 16 blocks
    conditional_classifier=True,
    num_experts=8,
)
_register("resnet18_cifar", "18", _PAPER, 11_173_962, 555_422_720, CIFAR, **_SMALL_IMAGES)
_register("resnet34_cifar", "34", _PAPER, 21_282_122, 1_159_402_496, CIFAR, **_SMALL_IMAGES)
_register("resnet50_cifar", "50", _PAPER, 23_520_842, 1_297_829_888, CIFAR, **_SMALL_IMAGES)

_register("lean_resnet18", "18", LEAN, 1_940_008, 330_067_968, **_LEAN)
_register("lean_resnet34", "34", LEAN, 3_084_584, 540_606_464, **_LEAN)
_register("lean_resnet50", "50", LEAN, 15_512_360, 2_450_536_448, **_LEAN)
_register("lean_resnet18_cifar", "18", LEAN, 1_424_458, 70_849_536, CIFAR, **_LEAN, **_SMALL_IMAGES)
_register("lean_resnet34_cifar", "34", LEAN, 2_569_034, 139_596_800, CIFAR, **_LEAN, **_SMALL_IMAGES)
_register("lean_resnet50_cifar", "50", LEAN, 13_476_170, 762_761_216, CIFAR, **_LEAN, **_SMALL_IMAGES)
