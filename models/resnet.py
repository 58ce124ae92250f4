"""ResNet (arXiv 1512.03385), CondConv-ResNet-50 (arXiv 1904.04971) and LeanResNet (arXiv 1904.06952, 1910.13157).

A 7x7 stem, max-pooling and four stages of residual blocks. A bottleneck has its stride in the 3x3 convolution. An
operator replaces convolutions of the branch; the shortcut's convolution is static.

In a LeanResNet every 3x3 convolution of a block is lean, strided ones and those that change the width included. The
stem, the 1x1 convolutions of shortcuts and bottlenecks, and the classifier are those of ResNet. The papers' own layouts
are unknown to us; the parameter counts follow from this rule.
"""

import keras
from keras import layers

from convzoo.models.builder import NetworkBuilder
from convzoo.models.info import CIFAR, ModelInfo, Published, Reported
from convzoo.models.operators import CondConv, Lean, Operator
from convzoo.models.papers import CONDCONV, CONDCONV_TABLE_1, LEAN
from convzoo.models.registry import register_model

STEM_FILTERS = 64
# Output channels of a bottleneck block as a multiple of those of its 3x3 convolution.
EXPANSION = 4


def resnet(
    *,
    num_classes: int,
    input_shape: tuple[int | None, int | None, int],
    repeats: tuple[int, ...],
    bottleneck: bool,
    width_coefficient: float = 1.0,
    operator: Operator | None = None,
    include_top: bool = True,
    features: bool = False,
    dropout_rate: float = 0.0,
    stem_strides: int = 2,
    padding: str = "symmetric",
    bn_momentum: float = 0.9,
    bn_epsilon: float = 1e-5,
    name: str = "resnet",
) -> keras.Model:
    """Builds a ResNet. See `convzoo.models.builder` for the arguments that all builders share.

    Args:
        repeats: Number of blocks per stage. The channels double from stage to stage, from 64.
        bottleneck: Whether a block has 1x1, 3x3 and 1x1 convolutions, or two 3x3 convolutions.
        width_coefficient: Factor on the channel counts.
        stem_strides: 1 builds a 3x3 stem without max-pooling.

    Raises:
        ModelError: The operator has no effect.

    Example:
        >>> resnet(num_classes=10, input_shape=(32, 32, 3), repeats=(1, 1), bottleneck=False).output_shape
        (None, 10)
    """
    net = NetworkBuilder("relu", padding, bn_momentum, bn_epsilon, operator)
    images = keras.Input(input_shape, name="images")
    stem_filters = int(STEM_FILTERS * width_coefficient)
    kernel_size = 7 if stem_strides > 1 else 3
    x = net.norm(net.stem(images).conv(images, "stem_conv", stem_filters, kernel_size, stem_strides), "stem")
    if stem_strides > 1:
        net.add_reduction(x)
        x = net.max_pool(x, "stem_pool")
    index = 0
    for stage, count in enumerate(repeats):
        filters = stem_filters * 2**stage
        for repeat in range(count):
            strides = 2 if stage and not repeat else 1
            if strides > 1:
                net.add_reduction(x)
            x = _residual_block(net, x, f"block{index}", filters, strides, bottleneck)
            index += 1
    net.add_reduction(x)
    return net.model(images, x, name, num_classes, include_top, features, dropout_rate)


def _residual_block(net, x, name, filters, strides, bottleneck):
    inputs, outputs = x, filters * (EXPANSION if bottleneck else 1)
    block = net.block(x, name, outputs)
    keeps_shape = strides == 1 and x.shape[-1] == outputs
    if not bottleneck and keeps_shape and (step := block.adjoint_step(x, name)) is not None:
        return layers.Subtract(name=f"{name}_subtract")([x, step])
    # (filters, kernel size, strides) of the branch's convolutions.
    if bottleneck:
        branch = ((filters, 1, 1), (filters, 3, strides), (outputs, 1, 1))
    else:
        branch = ((filters, 3, strides), (filters, 3, 1))
    for number, (width, kernel_size, stride) in enumerate(branch, start=1):
        x = block.conv(x, f"{name}_{number}_conv", width, kernel_size, stride)
        x = block.norm(x, f"{name}_{number}", activation=number < len(branch))
        if number == 1:
            x = block.mix(x, name)
    x = block.mix_outputs(x, name)
    if not keeps_shape:
        inputs = net.norm(
            net.conv(inputs, f"{name}_shortcut_conv", outputs, 1, strides), f"{name}_shortcut", activation=False
        )
    return block.activate(layers.Add(name=f"{name}_add")([x, inputs]), name)


_PAPER = "Deep Residual Learning for Image Recognition, arXiv 1512.03385"
_TORCHVISION = "torchvision's IMAGENET1K_V1 weights"
# Repeats and bottleneck by the number of layers.
_DEPTHS = {"18": ((2, 2, 2, 2), False), "34": ((3, 4, 6, 3), False), "50": ((3, 4, 6, 3), True)}
# The stencil of 5 points is LeanResNet's "4-point stencil", which does not count the center.
_LEAN = Lean(stencil="5-point", group_size=1)


def _register(name, depth, paper, params, madds, info=None, **arguments):
    repeats, bottleneck = _DEPTHS[depth]
    info = ModelInfo(name, "resnet", paper, params, madds, **(info or {}))
    register_model(resnet, info, repeats=repeats, bottleneck=bottleneck, **arguments)


def _published(top1, params, madds, source):
    return {"reported": Reported(top1, source), "published": Published(params, madds, source)}


_register("resnet18", "18", _PAPER, 11_689_512, 1_814_073_344, _published(69.758, 11_689_512, 1.81e9, _TORCHVISION))
_register("resnet34", "34", _PAPER, 21_797_672, 3_663_761_408, _published(73.314, 21_797_672, 3.66e9, _TORCHVISION))
_register("resnet50", "50", _PAPER, 25_557_032, 4_089_184_256, _published(77.7, None, 4093e6, CONDCONV_TABLE_1))
_register(
    "resnet50_condconv",
    "50",
    CONDCONV,
    129_872_800,
    4_208_386_048,
    _published(78.6, None, 4213e6, CONDCONV_TABLE_1),
    operator=CondConv(num_experts=8, first_block=13, classifier=True),  # the last three of 16 blocks
)
_register("resnet18_cifar", "18", _PAPER, 11_173_962, 555_422_720, CIFAR, stem_strides=1)
_register("resnet34_cifar", "34", _PAPER, 21_282_122, 1_159_402_496, CIFAR, stem_strides=1)
_register("resnet50_cifar", "50", _PAPER, 23_520_842, 1_297_829_888, CIFAR, stem_strides=1)

_register("lean_resnet18", "18", LEAN, 1_940_008, 330_067_968, operator=_LEAN)
_register("lean_resnet34", "34", LEAN, 3_084_584, 540_606_464, operator=_LEAN)
_register("lean_resnet50", "50", LEAN, 15_512_360, 2_450_536_448, operator=_LEAN)
_register("lean_resnet18_cifar", "18", LEAN, 1_424_458, 70_849_536, CIFAR, operator=_LEAN, stem_strides=1)
_register("lean_resnet34_cifar", "34", LEAN, 2_569_034, 139_596_800, CIFAR, operator=_LEAN, stem_strides=1)
_register("lean_resnet50_cifar", "50", LEAN, 13_476_170, 762_761_216, CIFAR, operator=_LEAN, stem_strides=1)
