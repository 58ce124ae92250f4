"""The layers and blocks that the benchmarks measure, each with its static counterpart.

benchmarks/layers.py measures their time on a CPU or GPU, benchmarks/tpu_layers.py what the TPU compiler estimates.
"""

import dataclasses
import functools
import itertools
import re
from collections.abc import Callable

import keras

from convzoo.benchmarks import references
from convzoo.errors import ConfigError
from convzoo.layers import (
    ChannelShuffle,
    ChannelSplit,
    CondConv2D,
    CondDense,
    DepthwiseCondConv2D,
    DRConv2D,
    LeanConv2D,
    UnevenPointwiseConv2D,
)

NUM_EXPERTS = NUM_REGIONS = 8


@dataclasses.dataclass(frozen=True)
class Case:
    """A layer or block at one input size.

    Functions are from symbolic Keras tensors to outputs; a layer is such a function too.

    Attributes:
        size: Input and output sizes. Cases of the same size share the static counterpart.
        layer: Name of the layer or block.
        inputs: Shapes without the batch axis: the images, and for some layers routing weights [experts] or a region
            mask [height, width, regions].
        static: The static counterpart, a function of the images.
        static_name: Its name.
        variants: Functions of all inputs by name; for a layer one per implementation.
        auto: The layer with implementation "auto"; None for a block.
        reference: Another way to compute the same, a function of all inputs, or None.
        reference_name: Its name.
        batch_size: Number of examples; None for the benchmark's own.
        targets: Targets of the variants that are for another target than the benchmark's.
    """

    size: str
    layer: str
    inputs: tuple[tuple[int, ...], ...]
    static: Callable
    static_name: str
    variants: dict[str, Callable]
    auto: keras.Layer | None = None
    reference: Callable | None = None
    reference_name: str = ""
    batch_size: int | None = None
    targets: dict[str, str] = dataclasses.field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"{self.size}: {self.layer}"


def select(cases: list[Case], pattern: str) -> list[Case]:
    """Returns the cases whose name contains a match of the regular expression. Raises ConfigError if there are none."""
    try:
        selected = [case for case in cases if re.search(pattern, case.name)]
    except re.error as error:
        raise ConfigError(f"--only={pattern} is not a regular expression: {error}") from error
    if not selected:
        raise ConfigError(
            f"--only={pattern} matches no case; examples of names: {', '.join(c.name for c in cases[:3])}"
        )
    return selected


def build_model(
    function: Callable, shapes: tuple[tuple[int, ...], ...], batch_size: int, dtype: str = "float32"
) -> keras.Model:
    """Returns `function` as a model.

    Args:
        function: See `Case`.
        shapes: Shapes of its inputs without the batch axis.
        batch_size: Number of examples.
        dtype: Dtype of the first input; the others are float32.
    """
    dtypes = [dtype, *["float32"] * (len(shapes) - 1)]
    inputs = [keras.Input(shape, batch_size, name) for shape, name in zip(shapes, dtypes, strict=True)]
    return keras.Model(inputs, function(*inputs))


def layer_cases() -> list[Case]:
    """Returns the single layers.

    Their sizes are those of the blocks of CondConv-EfficientNet-B0, MobileNetV1 and V2, ShuffleNetV2, Seesaw-Net and
    ResNet.
    """
    families = (_cond_conv, _depthwise_cond_conv, _cond_dense, _region_aware, _uneven, _lean)
    return list(itertools.chain(*(family() for family in families)))


def block_cases() -> list[Case]:
    """Returns blocks of several layers; the TPU compiler fuses a layer with its neighbors, which affects its cost."""
    return [*_region_aware_branches(), *_shuffled_blocks(), *_unrolled_blocks()]


def _layer_case(size, layer, inputs, static, kind, arguments, reference=None, reference_name="", **more):
    """Returns the case of `kind(**arguments)` with all implementations that apply to the arguments."""
    variants = {}
    auto = kind(**arguments, use_bias=False)  # raises for invalid arguments
    for implementation in kind.IMPLEMENTATIONS:
        try:
            variants[implementation] = kind(**arguments, use_bias=False, implementation=implementation)
        except ValueError:  # the implementation does not apply to these arguments
            continue
    static_name = {keras.layers.DepthwiseConv2D: "depthwise convolution", keras.layers.Dense: "dense"}
    return Case(
        size,
        layer,
        inputs,
        static,
        static_name.get(type(static), "convolution"),
        variants,
        auto,
        reference,
        reference_name,
        **more,
    )


def _cond_conv():
    # 1x1: EfficientNet-B0's conditional blocks. 3x3: ResNet.
    shapes = [(1, 14, 112, 672), (1, 14, 672, 112), (1, 7, 192, 1152), (1, 7, 1152, 192), (1, 7, 1152, 320)]
    shapes += [(3, 14, 128, 128), (3, 7, 256, 256), (3, 14, 256, 256), (3, 7, 512, 512)]
    for kernel_size, size, channels, filters in shapes:
        arguments = {"filters": filters, "kernel_size": kernel_size, "padding": "same"}
        case = _layer_case(
            f"{size}x{size}, {kernel_size}x{kernel_size}, {channels} to {filters}",
            "condconv",
            ((size, size, channels), (NUM_EXPERTS,)),
            keras.layers.Conv2D(**arguments, use_bias=False),
            CondConv2D,
            {**arguments, "num_experts": NUM_EXPERTS},
            references.UnrolledCondConv2D(**arguments, num_experts=NUM_EXPERTS, use_bias=False),
            "unrolled",
        )
        if kernel_size == 1:
            # For other targets than a TPU the layer mixes kernels by one matrix product, without a barrier.
            name = "matmul, mixed by a product"
            matmul = CondConv2D(**arguments, num_experts=NUM_EXPERTS, use_bias=False, implementation="matmul")
            case = dataclasses.replace(case, variants={**case.variants, name: matmul}, targets={name: "cpu"})
        yield case


def _depthwise_cond_conv():
    # EfficientNet-B0's conditional blocks, and MobileNetV1 on small images.
    shapes = ((5, 14, 672, 1), (5, 14, 672, 2), (5, 7, 1152, 1), (3, 7, 1152, 1), (3, 14, 128, 1), (3, 4, 128, 1))
    for kernel_size, size, channels, strides in shapes:
        arguments = {"kernel_size": kernel_size, "strides": strides, "padding": "same"}
        yield _layer_case(
            f"{size}x{size}x{channels}, depthwise {kernel_size}x{kernel_size}" + _stride(strides),
            "depthwise condconv",
            ((size, size, channels), (NUM_EXPERTS,)),
            keras.layers.DepthwiseConv2D(**arguments, use_bias=False),
            DepthwiseCondConv2D,
            {**arguments, "num_experts": NUM_EXPERTS},
            references.UnrolledDepthwiseCondConv2D(**arguments, num_experts=NUM_EXPERTS, use_bias=False),
            "unrolled",
        )


def _cond_dense():
    yield _layer_case(
        "1280 to 1000",
        "conddense",
        ((1280,), (NUM_EXPERTS,)),
        keras.layers.Dense(1000, use_bias=False),
        CondDense,
        {"units": 1000, "num_experts": NUM_EXPERTS},
        references.UnrolledCondDense(1000, num_experts=NUM_EXPERTS, use_bias=False),
        "unrolled",
    )


def _region_aware():
    # 1x1: DRConv-ShuffleNetV2 0.5x and 1x, and MobileNetV2's expansions and projections. 3x3: a larger window.
    shapes = [(1, 28, 24, 24), (1, 14, 48, 48), (1, 7, 96, 96), (1, 28, 58, 58), (1, 14, 116, 116), (1, 7, 232, 232)]
    shapes += [(1, 28, 32, 192), (1, 14, 64, 384), (1, 14, 384, 64), (3, 14, 48, 48), (3, 14, 64, 64)]
    settings = [(*shape, "drconv", {"regions": NUM_REGIONS}) for shape in shapes]
    settings.append((1, 14, 48, 48, "drconv one region", {"regions": 1}))
    settings += [
        (1, size, width, width, "drconv grouped generator", {"regions": NUM_REGIONS, "generator": "grouped"})
        for size, width in ((28, 24), (14, 48), (7, 96))
    ]
    for kernel_size, size, channels, filters, layer, region_arguments in settings:
        arguments = {"filters": filters, "kernel_size": kernel_size, "padding": "same"}
        yield _layer_case(
            f"{size}x{size}, {kernel_size}x{kernel_size}, {channels} to {filters}",
            layer,
            ((size, size, channels), (size, size, region_arguments["regions"])),
            keras.layers.Conv2D(**arguments, use_bias=False),
            DRConv2D,
            {**arguments, **region_arguments},
            references.MaskedDRConv2D(**arguments, **region_arguments, use_bias=False),
            "masked",
        )


def _uneven():
    # Seesaw-Net's expansions and projections, and IGCV3's equal groups.
    shapes = ((56, 24, 144), (28, 192, 32), (14, 64, 384), (14, 96, 576), (14, 576, 96), (7, 160, 960))
    for (size, channels, filters), ratio in itertools.product(shapes, ((1, 3), (1, 1))):
        yield _layer_case(
            f"{size}x{size}, 1x1, {channels} to {filters}",
            f"uneven {ratio[0]}:{ratio[1]}",
            ((size, size, channels),),
            keras.layers.Conv2D(filters, 1, use_bias=False),
            UnevenPointwiseConv2D,
            {"filters": filters, "ratio": ratio},
            references.equal_groups(filters),
            "groups=2",
        )


def _lean():
    # The 3x3 convolutions of ResNet, the last of them the first of a stage.
    shapes = ((56, 64, 64, 1), (28, 128, 128, 1), (14, 256, 256, 1), (7, 512, 512, 1), (28, 128, 256, 2))
    stencils = (("9-point", 1), ("5-point", 1), ("3-point-horizontal", 1), ("9-point", 8), ("9-point", 16))
    for (size, channels, filters, strides), (stencil, group_size) in itertools.product(shapes, stencils):
        arguments = {"filters": filters, "strides": strides, "padding": "same"}
        yield _layer_case(
            f"{size}x{size}, 3x3, {channels} to {filters}" + _stride(strides),
            f"lean {stencil} g{group_size}",
            ((size, size, channels),),
            keras.layers.Conv2D(**arguments, kernel_size=3, use_bias=False),
            LeanConv2D,
            {**arguments, "stencil": stencil, "group_size": group_size},
            references.separate_convolutions(filters, group_size, strides),
            "in turn",
        )


def _stride(strides):
    return f", stride {strides}" if strides > 1 else ""


def _region_aware_branches():
    """The right branch of ShuffleNetV2's units, 0.5x and 1x."""

    def branch(pointwise, images, *mask):
        x = keras.layers.ReLU()(_norm(pointwise(images, *mask)))
        x = _norm(keras.layers.DepthwiseConv2D(3, padding="same", use_bias=False)(x))
        return keras.layers.ReLU()(_norm(pointwise(x, *mask)))

    def static(images):
        return keras.layers.Conv2D(images.shape[3], 1)(images)

    def region_aware(implementation, images, mask):
        return DRConv2D(images.shape[3], 1, NUM_REGIONS, implementation=implementation)(images, mask)

    for size, channels in ((56, 24), (28, 24), (28, 58), (14, 48), (7, 96)):
        yield Case(
            f"{size}x{size}x{channels}, two 1x1 and a depthwise 3x3",
            "drconv",
            ((size, size, channels), (size, size, NUM_REGIONS)),
            functools.partial(branch, static),
            "convolutions",
            {
                implementation: functools.partial(branch, functools.partial(region_aware, implementation))
                for implementation in ("bank_outputs", "bank_loop")
            },
        )


def _shuffled_blocks():
    """Two blocks of Seesaw-Net, or two units of ShuffleNetV2."""

    def seesaw_block(images, shuffle):
        # Linear expansion, as in the authors' code.
        x = _norm(UnevenPointwiseConv2D(576, use_bias=False)(images))
        x = _norm(keras.layers.DepthwiseConv2D(3, padding="same", use_bias=False)(shuffle(x)))
        return images + _norm(UnevenPointwiseConv2D(images.shape[3], use_bias=False)(keras.layers.ReLU(6)(x)))

    def shufflenet_unit(images, shuffle):
        left, right = ChannelSplit((images.shape[3] // 2,) * 2)(images)
        right = keras.layers.ReLU()(_norm(keras.layers.Conv2D(left.shape[3], 1, use_bias=False)(right)))
        right = _norm(keras.layers.DepthwiseConv2D(3, padding="same", use_bias=False)(right))
        right = keras.layers.ReLU()(_norm(keras.layers.Conv2D(left.shape[3], 1, use_bias=False)(right)))
        return shuffle(keras.layers.Concatenate()([left, right]))

    def twice(block, shuffle, images):
        return block(block(images, shuffle), shuffle)

    for size, shape, block in (
        ("14x14x96, two blocks of Seesaw-Net", (14, 14, 96), seesaw_block),
        ("28x28x48, two units of ShuffleNetV2", (28, 28, 48), shufflenet_unit),
        ("28x28x116, two units of ShuffleNetV2", (28, 28, 116), shufflenet_unit),
    ):
        variants = {name: ChannelShuffle(2, name) for name in ChannelShuffle.IMPLEMENTATIONS}
        yield Case(
            size,
            "shuffle",
            (shape,),
            functools.partial(twice, block, lambda x: x),
            "without a shuffle",
            {name: functools.partial(twice, block, shuffle) for name, shuffle in variants.items()},
        )


def _unrolled_blocks():
    """A block of CondConv-EfficientNet (1x1 112 to 672, depthwise 5x5, 1x1 to 112) beside that of the authors' code."""

    def block(conv, depthwise, arguments, images, *routing):
        silu = keras.activations.silu
        x = silu(_norm(conv(672, 1, use_bias=False, **arguments)(images, *routing)))
        x = silu(_norm(depthwise(5, padding="same", use_bias=False, **arguments)(x, *routing)))
        return _norm(conv(112, 1, use_bias=False, **arguments)(x, *routing))

    experts = {"num_experts": NUM_EXPERTS}
    unrolled = (references.UnrolledCondConv2D, references.UnrolledDepthwiseCondConv2D, experts)
    for batch_size in (8, 16, 32):
        yield Case(
            f"14x14, MBConv 112, batch {batch_size}",
            "condconv",
            ((14, 14, 112), (NUM_EXPERTS,)),
            functools.partial(block, keras.layers.Conv2D, keras.layers.DepthwiseConv2D, {}),
            "block",
            {
                "block": functools.partial(block, CondConv2D, DepthwiseCondConv2D, experts),
                "block, unrolled": functools.partial(block, *unrolled),
            },
            batch_size=batch_size,
        )


def _norm(x):
    return keras.layers.BatchNormalization()(x)
