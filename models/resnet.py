"""ResNet (arXiv 1512.03385) with a bottleneck's stride in its 3x3 convolution, and CondConv-ResNet-50 (1904.04971).

Four stages of residual blocks after a 7x7 stem and a max-pooling. In a conditional block one routing vector, computed
from the block's input, mixes the experts of the two or three convolutions of the branch; the shortcut's stays ordinary.
"""

import keras
from keras import layers

from convzoo.models.info import ModelInfo, Published, Reported
from convzoo.models.papers import CONDCONV, CONDCONV_TABLE_1
from convzoo.models.parts import Endpoints, Parts
from convzoo.models.preprocessing import IMAGENET
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
        dropout_rate: Dropout before the classifier.
        stem_strides: 2 as published; 1 for small pictures (32x32): a 3x3 stem with stride 1 and no max-pooling.
        padding, bn_momentum, bn_epsilon: See `convzoo.models.parts.Parts`.
        name: Name of the model.

    Returns:
        A `keras.Model` from float images [batch, height, width, channels] to float32 logits [batch, num_classes].

    Raises:
        ModelError: An unknown routing or padding, or a first conditional block that there is not.
    """
    parts = Parts("relu", padding, bn_momentum, bn_epsilon, num_experts)
    router = Router(routing, num_experts, expert_dropout)
    first = first_block(first_conditional_block, sum(repeats), least=0)
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
            x = _block(parts, x, f"block{index}", width * 2**stage, strides, bottleneck, weights)
            index += 1
    endpoints.before_downsampling(x)

    def classifier(x):
        return parts.classifier(x, num_classes, dropout_rate, router if conditional_classifier else None)

    return endpoints.model(images, x, name, include_top, features, classifier)


def _block(parts, x, name, filters, strides, bottleneck, routing):
    inputs = x
    # (filters, kernel size, strides) of the branch's convolutions.
    if bottleneck:
        branch = ((filters, 1, 1), (filters, 3, strides), (filters * EXPANSION, 1, 1))
    else:
        branch = ((filters, 3, strides), (filters, 3, 1))
    for place, (width, kernel_size, stride) in enumerate(branch, start=1):
        x = parts.conv(x, f"{name}_{place}_conv", width, kernel_size, stride, routing=routing)
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
