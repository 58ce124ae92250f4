"""ResNet (arXiv 1512.03385) with a bottleneck's stride in its 3x3 convolution, CondConv-ResNet-50 (1904.04971), and
LeanResNet (1904.06952, 1910.13157).

Four stages of residual blocks after a 7x7 stem and a max-pooling. In a conditional block one routing vector, computed
from the block's input, mixes the experts of the two or three convolutions of the branch; the shortcut's stays ordinary.

In a lean network every 3x3 convolution of a block is lean, those with strides and those that change the width too. The
stem, the shortcuts' and the bottlenecks' 1x1 convolutions and the classifier are ResNet's own. The papers' own layouts
are not known to us: these are ResNet's, and the counts are those of this rule.
"""

import keras
from keras import layers

from convzoo.models.errors import ModelError
from convzoo.models.info import ModelInfo, Published, Reported
from convzoo.models.lean import Stencils
from convzoo.models.papers import CONDCONV, CONDCONV_TABLE_1, LEAN
from convzoo.models.parts import Endpoints, Parts
from convzoo.models.preprocessing import CIFAR10, IMAGENET
from convzoo.models.registry import register_model
from convzoo.models.routing import Router, first_block

STEM_FILTERS = 64
# A bottleneck block ends in as many times the channels of its 3x3 convolution.
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
    """Builds a ResNet.

    Args:
        num_classes: Width of the logits.
        input_shape: Height, width and channels of one image; height and width may be None.
        repeats: Blocks of each stage; the channels double from stage to stage, from 64.
        bottleneck: Whether a block is 1x1, 3x3, 1x1 convolutions, or two of 3x3.
        include_top: False ends the network at the last block's output, float [batch, h, w, channels].
        features: True returns a dict of feature maps instead: "reduction_1" .. "reduction_5", the last map at each
            resolution, and "head", the last of them again.
        width_coefficient: Factor on every channel count.
        num_experts: Experts of each conditional layer (n in CondConv).
        first_conditional_block: Blocks from this one on are conditional, counted from 0 over the whole network as in
            the layers' names; None for no block.
        conditional_classifier: Whether the classifier is conditional.
        routing, expert_dropout: See `convzoo.models.routing.Router`. CondConv drops experts of its ResNet-50.
        stencil, group_size: Of the lean convolutions, see `convzoo.models.lean.Stencils`; without a stencil the
            convolutions are plain.
        symmetric_step: Whether lean blocks that keep size and width are x - K^T act(norm(K x)), with one convolution K
            and its adjoint in the place of two. So in the authors' earlier code; not known of the paper. Not for
            bottlenecks.
        dropout_rate: Dropout before the classifier.
        stem_strides: 2 as published; 1 for small pictures (32x32): a 3x3 stem with stride 1 and no max-pooling.
        padding, bn_momentum, bn_epsilon: See `convzoo.models.parts.Parts`.
        name: Name of the model.

    Returns:
        A `keras.Model` from float images [batch, height, width, channels] to float32 logits [batch, num_classes].

    Raises:
        ModelError: An unknown routing, stencil or padding, a first conditional block that there is not, lean blocks
            that are conditional, or symmetric steps in blocks that have none.
    """
    if symmetric_step and (bottleneck or stencil is None):
        raise ModelError("symmetric_step is for lean blocks of two 3x3 convolutions; leave it out, or set stencil")
    parts = Parts("relu", padding, bn_momentum, bn_epsilon, num_experts)
    router = Router(routing, num_experts, expert_dropout)
    first = first_block(first_conditional_block, sum(repeats), least=0)
    stencils = Stencils(stencil, group_size)
    endpoints = Endpoints()
    images = keras.Input(input_shape, name="images")
    width = int(STEM_FILTERS * width_coefficient)
    x = parts.norm(parts.conv(images, "stem_conv", width, 7 if stem_strides > 1 else 3, stem_strides), "stem")
    if stem_strides > 1:
        endpoints.before_downsampling(x)
        x = parts.max_pool(x, "stem_pool")
    index = 0
    for stage, count in enumerate(repeats):
        for repeat in range(count):
            strides = 2 if stage and not repeat else 1
            if strides > 1:
                endpoints.before_downsampling(x)
            weights = router(x, f"block{index}") if index >= first else None
            filters = width * 2**stage
            if symmetric_step and weights is None and strides == 1 and x.shape[-1] == filters:
                x = layers.Subtract(name=f"block{index}_subtract")(
                    [x, parts.adjoint_pair(x, f"block{index}", stencils())]
                )
            else:
                x = _block(parts, x, f"block{index}", filters, strides, bottleneck, weights, stencils)
            index += 1
    endpoints.before_downsampling(x)

    def classifier(x):
        return parts.classifier(x, num_classes, dropout_rate, router if conditional_classifier else None)

    return endpoints.model(images, x, name, include_top, features, classifier)


def _block(parts, x, name, filters, strides, bottleneck, routing, stencils):
    inputs = x
    # (filters, kernel size, strides) of the branch's convolutions.
    if bottleneck:
        branch = ((filters, 1, 1), (filters, 3, strides), (filters * EXPANSION, 1, 1))
    else:
        branch = ((filters, 3, strides), (filters, 3, 1))
    for place, (width, kernel_size, stride) in enumerate(branch, start=1):
        stencil = stencils() if kernel_size == 3 else None
        x = parts.conv(x, f"{name}_{place}_conv", width, kernel_size, stride, routing=routing, stencil=stencil)
        x = parts.norm(x, f"{name}_{place}", activation=place < len(branch))
    if strides > 1 or inputs.shape[-1] != x.shape[-1]:
        inputs = parts.conv(inputs, f"{name}_shortcut_conv", x.shape[-1], 1, strides)
        inputs = parts.norm(inputs, f"{name}_shortcut", activation=False)
    return parts.activate(layers.Add(name=f"{name}_add")([x, inputs]), name)


_PAPER = "Deep Residual Learning for Image Recognition, arXiv 1512.03385"
_TORCHVISION = "torchvision's IMAGENET1K_V1 weights"
# name: repeats, bottleneck, parameters, multiply-adds, reported top-1, printed multiply-adds
_STATIC = {
    "resnet18": (
        (2, 2, 2, 2),
        False,
        11_689_512,
        1_814_073_344,
        Reported(69.758, _TORCHVISION),
        Published(11_689_512, 1.81e9, _TORCHVISION),
    ),
    "resnet34": (
        (3, 4, 6, 3),
        False,
        21_797_672,
        3_663_761_408,
        Reported(73.314, _TORCHVISION),
        Published(21_797_672, 3.66e9, _TORCHVISION),
    ),
    "resnet50": (
        (3, 4, 6, 3),
        True,
        25_557_032,
        4_089_184_256,
        Reported(77.7, CONDCONV_TABLE_1),
        Published(None, 4093e6, CONDCONV_TABLE_1),
    ),
}

for _name, (_repeats, _bottleneck, _params, _madds, _reported, _published) in _STATIC.items():
    register_model(
        resnet,
        ModelInfo(
            name=_name,
            family="resnet",
            paper=_PAPER,
            params=_params,
            madds=_madds,
            input_size=224,
            preprocessing=IMAGENET,
            reported=_reported,
            published=_published,
        ),
        repeats=_repeats,
        bottleneck=_bottleneck,
    )

register_model(
    resnet,
    ModelInfo(
        name="resnet50_condconv",
        family="resnet",
        paper=CONDCONV,
        params=129_872_800,
        madds=4_208_386_048,
        input_size=224,
        preprocessing=IMAGENET,
        reported=Reported(78.6, CONDCONV_TABLE_1),
        published=Published(None, 4213e6, CONDCONV_TABLE_1),
    ),
    repeats=(3, 4, 6, 3),
    bottleneck=True,
    # The last three residual blocks.
    first_conditional_block=13,
    conditional_classifier=True,
    num_experts=8,
)

# LeanResNet's "4-point stencil", which leaves the centre uncounted. It and the group size are overrides.
_LEAN_STENCIL = "5-point"
# Name: the network in the plain table, parameters, multiply-adds. "_cifar" is for pictures of 32x32.
_OTHERS = {
    "lean_resnet18": ("resnet18", 1_940_008, 330_067_968),
    "lean_resnet34": ("resnet34", 3_084_584, 540_606_464),
    "lean_resnet50": ("resnet50", 15_512_360, 2_450_536_448),
    "lean_resnet18_cifar": ("resnet18", 1_424_458, 70_849_536),
    "lean_resnet34_cifar": ("resnet34", 2_569_034, 139_596_800),
    "lean_resnet50_cifar": ("resnet50", 13_476_170, 762_761_216),
    "resnet18_cifar": ("resnet18", 11_173_962, 555_422_720),
    "resnet34_cifar": ("resnet34", 21_282_122, 1_159_402_496),
    "resnet50_cifar": ("resnet50", 23_520_842, 1_297_829_888),
}

for _name, (_plain, _params, _madds) in _OTHERS.items():
    _repeats, _bottleneck, *_ = _STATIC[_plain]
    _small = _name.endswith("_cifar")
    register_model(
        resnet,
        ModelInfo(
            name=_name,
            family="resnet",
            paper=LEAN if _name.startswith("lean") else _PAPER,
            params=_params,
            madds=_madds,
            input_size=32 if _small else 224,
            preprocessing=CIFAR10 if _small else IMAGENET,
            num_classes=10 if _small else 1000,
        ),
        repeats=_repeats,
        bottleneck=_bottleneck,
        **({"stencil": _LEAN_STENCIL} if _name.startswith("lean") else {}),
        **({"stem_strides": 1} if _small else {}),
    )
