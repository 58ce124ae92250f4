r"""What the TPU compiler says of the forms of a layer: the table behind what `form="auto"` takes on a TPU.

    python scripts/tpu_forms.py --only='uneven *'
    python scripts/tpu_forms.py --topology=v6e --output=forms_v6e.json
    python scripts/tpu_forms.py --output=docs/tpu_compile/forms_v5e.json --markers=docs/tpu_compile.md

Forward and backward pass of one layer, batch 128, bfloat16 with float32 weights, compiled for one chip and not run.
Columns as in scripts/tpu_compile.py; ratios are to the first row of each size, the plain layer. Forms with a loop over
the images have no times: no estimate counts its turns. All of it takes most of an hour on two cores; --output keeps
what was found, and the same command goes on with the rest; a row whose computation was changed has to be taken out of
the file by hand.

The last rows are a whole block of CondConv-EfficientNet (1x1 112 to 672, depthwise 5x5, 1x1 to 112, over 14x14) at
batch 8, 16 and 32, plain, as convzoo computes it, and "unrolled": the batch split into examples and each convolved by
itself, as the authors' code does.
"""

import dataclasses
import datetime
import fnmatch
import itertools
import json
import os
import sys
from collections.abc import Callable

import tabulate
from absl import flags

from convzoo.training import program

os.environ["CUDA_VISIBLE_DEVICES"] = "-1"  # a GPU would have the step lowered for itself

TOPOLOGY = flags.DEFINE_enum("topology", "v5e", ["v4", "v5e", "v5p", "v6e"], "The chip.")
ONLY = flags.DEFINE_string("only", "*", "Rows of such names, with shell wildcards; the plain layers beside them stay.")
BATCH = flags.DEFINE_integer("batch", 128, "Examples on the chip, but in the rows that tell their own.", lower_bound=1)
OUTPUT = flags.DEFINE_string("output", None, "A JSON file for what was found.")
MARKERS = flags.DEFINE_string(
    "markers", None, "A Markdown file: the table goes between <!-- tpu_forms:CHIP --> and <!-- /tpu_forms:CHIP -->."
)

_EXPERTS = 8
_UNROLLED_BATCHES = (8, 16, 32)


@dataclasses.dataclass(frozen=True)
class Row:
    """A layer to be compiled.

    Attributes:
        size: What rows have in common that are held against each other; the first of them is the plain layer.
        name: Of the layer and its form.
        inputs: Shapes without the batch. The first is that of the images; the others stay in float32.
        apply: From symbolic inputs to outputs.
        batch: Examples; None for --batch.
        target: As `convzoo.layers.set_target` takes it.
    """

    size: str
    name: str
    inputs: tuple[tuple[int, ...], ...]
    apply: Callable
    batch: int | None = None
    target: str = "tpu"


def main():
    import keras

    from convzoo import layers
    from convzoo.tpu import compiler
    from convzoo.tpu.lowering import NotForTPUError
    from convzoo.training import markdown
    from convzoo.training.config import ConfigError

    try:
        if told := compiler.check_installed():
            print(told, flush=True)
    except compiler.CompilerError as error:
        raise ConfigError(str(error)) from error
    if MARKERS.value:
        markdown.check_markers(MARKERS.value, f"tpu_forms:{TOPOLOGY.value}")
    if OUTPUT.value:
        program.check_folder(OUTPUT.value)
    keras.config.set_dtype_policy("mixed_bfloat16")
    rows = _wanted(_rows())
    found = _read_output()
    for row in rows:
        record = found.get(f"{row.size}: {row.name}")
        if record is None:
            layers.set_target(row.target)
            try:
                record = _compile(row)
            except compiler.BrokenCompilerError as error:
                print(f"{row.size}: {row.name}: {error}; it is tried again next time", file=sys.stderr, flush=True)
                continue
            except (compiler.CompilerError, NotForTPUError) as error:
                record = {"error": str(error)}
            found[f"{row.size}: {row.name}"] = record
            if OUTPUT.value:
                text = json.dumps({"topology": TOPOLOGY.value, "batch": BATCH.value, "rows": found}, indent=2)
                program.write_output(OUTPUT.value, text + "\n")
        print(f"{row.size}: {row.name}: {record.get('error', 'compiled')}", flush=True)
    table = _table(rows, found)
    print(table)
    if MARKERS.value:
        markdown.write_between(MARKERS.value, f"tpu_forms:{TOPOLOGY.value}", f"\n{table}\n")
    if any("compile_seconds" not in found.get(f"{row.size}: {row.name}", {}) for row in rows):
        sys.exit(1)


def _wanted(rows):
    """Rows whose name --only matches, and the first of their sizes."""
    from convzoo.training.config import ConfigError

    matching = {row.size for row in rows if not _is_plain(row, rows) and fnmatch.fnmatchcase(row.name, ONLY.value)}
    if not matching:
        raise ConfigError(f"no row is called --only={ONLY.value}")
    return [
        row
        for row in rows
        if row.size in matching and (_is_plain(row, rows) or fnmatch.fnmatchcase(row.name, ONLY.value))
    ]


def _is_plain(row, rows):
    return row is next(other for other in rows if other.size == row.size)


def _read_output():
    import tensorflow as tf

    from convzoo.training.config import ConfigError, first_line
    from convzoo.training.files import read_text

    if not OUTPUT.value or not tf.io.gfile.exists(OUTPUT.value):
        return {}
    try:
        kept = json.loads(read_text(OUTPUT.value))
        what, rows = (kept["topology"], kept["batch"]), dict(kept["rows"])
    except (tf.errors.OpError, OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"--output={OUTPUT.value} is not from this program ({first_line(error)})") from error
    if what != (TOPOLOGY.value, BATCH.value):
        raise ConfigError(f"--output={OUTPUT.value} is of --topology={what[0]} --batch={what[1]}; choose another name")
    return rows


def _rows():
    """All rows, size by size; the plain layer of a size that two families share is there once."""
    families = (
        _conditional_pointwise(), _conditional(), _conditional_depthwise(), _region_aware(), _region_aware_pairs(),
        _uneven(), _shuffled(), _lean(), _unrolled(),
    )  # fmt: skip
    of_size = {}
    for row in itertools.chain(*families):
        of_size.setdefault(row.size, {}).setdefault(row.name, row)
    return [row for rows in of_size.values() for row in rows.values()]


def _conditional_pointwise():
    """Expansion and projection of EfficientNet-B0's conditional blocks, and the last of them."""
    import keras

    from convzoo.layers import CondConv2D

    for size, channels, filters in ((14, 112, 672), (14, 672, 112), (7, 192, 1152), (7, 1152, 192), (7, 1152, 320)):
        told, shape = f"{size}x{size}, 1x1, {channels} to {filters}", (size, size, channels)
        yield Row(told, "convolution", (shape,), keras.layers.Conv2D(filters, 1, use_bias=False))
        for form, target in (("matmul", "tpu"), ("matmul", "cpu"), ("experts", "tpu")):
            layer = CondConv2D(filters, 1, _EXPERTS, use_bias=False, form=form)
            # Elsewhere than on a TPU kernels are mixed by one matrix product.
            name = f"condconv {form}" + (", mixed by a product" if target != "tpu" else "")
            yield Row(told, name, (shape, (_EXPERTS,)), layer, target=target)


def _conditional():
    """The 3x3 of a ResNet."""
    import keras

    from convzoo.layers import CondConv2D

    for size, channels in ((14, 256), (7, 512)):
        told, shape = f"{size}x{size}, 3x3, {channels} to {channels}", (size, size, channels)
        yield Row(told, "convolution", (shape,), keras.layers.Conv2D(channels, 3, padding="same", use_bias=False))
        for form in ("patches", "experts", "map", "group"):
            layer = CondConv2D(channels, 3, _EXPERTS, padding="same", use_bias=False, form=form)
            yield Row(told, f"condconv {form}", (shape, (_EXPERTS,)), layer)


def _conditional_depthwise():
    """The depthwise layers of EfficientNet-B0's conditional blocks."""
    import keras

    from convzoo.layers import DepthwiseCondConv2D

    for size, channels, strides in ((14, 672, 1), (14, 672, 2), (7, 1152, 1)):
        told = f"{size}x{size}x{channels}, depthwise 5x5" + (", stride 2" if strides > 1 else "")
        shape = (size, size, channels)
        plain = keras.layers.DepthwiseConv2D(5, strides, padding="same", use_bias=False)
        yield Row(told, "depthwise convolution", (shape,), plain)
        for form in ("taps", "group", "map"):
            layer = DepthwiseCondConv2D(5, _EXPERTS, strides, padding="same", use_bias=False, form=form)
            yield Row(told, f"depthwise condconv {form}", (shape, (_EXPERTS,)), layer)


def _region_aware():
    """The 1x1 of ShuffleNetV2's branches, 0.5x and 1x, and a 3x3 of a MobileNet's width."""
    import keras

    from convzoo.layers import DRConv2D

    regions = 8
    for size, channels, kernel in (
        (28, 24, 1), (14, 48, 1), (7, 96, 1), (28, 58, 1), (14, 116, 1), (7, 232, 1), (14, 64, 3),
    ):  # fmt: skip
        told, shape = f"{size}x{size}, {kernel}x{kernel}, {channels} to {channels}", (size, size, channels)
        plain = keras.layers.Conv2D(channels, kernel, padding="same", use_bias=False)
        yield Row(told, "convolution", (shape,), plain)
        for form in DRConv2D.FORMS:
            if kernel == 1 or form != "bank_inputs":
                layer = DRConv2D(channels, kernel, regions, padding="same", use_bias=False, form=form)
                yield Row(told, f"drconv {form}", (shape, (size, size, regions)), layer)


def _region_aware_pairs():
    """The right branch of ShuffleNetV2's units, 0.5x and 1x: what is around a layer is part of what it takes."""
    import keras

    from convzoo.layers import DRConv2D

    regions = 8
    for size, channels in ((56, 24), (28, 24), (28, 58), (14, 48), (7, 96)):
        told, shape = f"{size}x{size}x{channels}, two 1x1 and a depthwise 3x3", (size, size, channels)
        inputs = (shape, (size, size, regions))
        yield Row(told, "convolutions", inputs, _branch(lambda x, mask: keras.layers.Conv2D(x.shape[3], 1)(x)))
        for form in ("bank_outputs", "bank_loop"):

            def regional(x, mask, form=form):
                return DRConv2D(x.shape[3], 1, regions, form=form)(x, mask)

            yield Row(told, f"drconv {form}", inputs, _branch(regional))


def _branch(pointwise):
    import keras

    def apply(images, mask):
        x = keras.layers.ReLU()(_norm(pointwise(images, mask)))
        x = _norm(keras.layers.DepthwiseConv2D(3, padding="same", use_bias=False)(x))
        return keras.layers.ReLU()(_norm(pointwise(x, mask)))

    return apply


def _uneven():
    """Projections and expansions of Seesaw-Net, 1:3, and the equal shares of IGCV3."""
    import keras

    from convzoo.layers import UnevenPointwiseConv2D

    for size, channels, filters in ((28, 192, 32), (14, 96, 576), (14, 576, 96), (7, 160, 960)):
        told, shape = f"{size}x{size}, 1x1, {channels} to {filters}", (size, size, channels)
        yield Row(told, "convolution", (shape,), keras.layers.Conv2D(filters, 1, use_bias=False))
        for ratio, forms in (((1, 3), ("slices", "dense")), ((1, 1), ("slices", "dense", "grouped"))):
            for form in forms:
                layer = UnevenPointwiseConv2D(filters, ratio, use_bias=False, form=form)
                yield Row(told, f"uneven {ratio[0]}:{ratio[1]} {form}", (shape,), layer)


def _shuffled():
    """Blocks of Seesaw-Net and ShuffleNetV2, two of each: what is around a shuffle is part of what it takes."""
    from convzoo.layers import ChannelShuffle

    for told, shape, block in (
        ("14x14x96, two blocks of Seesaw-Net", (14, 14, 96), _seesaw_block),
        ("28x28x48, two units of ShuffleNetV2", (28, 28, 48), _shufflenet_unit),
        ("28x28x116, two units of ShuffleNetV2", (28, 28, 116), _shufflenet_unit),
    ):
        yield Row(told, "without a shuffle", (shape,), _twice(block, lambda x: x))
        for form in ChannelShuffle.FORMS:
            yield Row(told, f"shuffle {form}", (shape,), _twice(block, ChannelShuffle(2, form)))


def _twice(block, shuffle):
    return lambda images: block(block(images, shuffle), shuffle)


def _seesaw_block(images, shuffle):
    import keras

    from convzoo.layers import UnevenPointwiseConv2D

    x = _norm(UnevenPointwiseConv2D(576, use_bias=False)(images))  # linear, as in the authors' code
    x = _norm(keras.layers.DepthwiseConv2D(3, padding="same", use_bias=False)(shuffle(x)))
    return images + _norm(UnevenPointwiseConv2D(images.shape[3], use_bias=False)(keras.layers.ReLU(6)(x)))


def _shufflenet_unit(images, shuffle):
    import keras

    from convzoo.layers import ChannelSplit

    left, right = ChannelSplit((images.shape[3] // 2,) * 2)(images)
    right = keras.layers.ReLU()(_norm(keras.layers.Conv2D(left.shape[3], 1, use_bias=False)(right)))
    right = _norm(keras.layers.DepthwiseConv2D(3, padding="same", use_bias=False)(right))
    right = keras.layers.ReLU()(_norm(keras.layers.Conv2D(left.shape[3], 1, use_bias=False)(right)))
    return shuffle(keras.layers.Concatenate()([left, right]))


def _lean():
    """The 3x3 of LeanResNet."""
    import keras

    from convzoo.layers import LeanConv2D

    for size, channels in ((14, 256), (28, 128), (56, 64)):
        told, shape = f"{size}x{size}, 3x3, {channels} to {channels}", (size, size, channels)
        yield Row(told, "convolution", (shape,), keras.layers.Conv2D(channels, 3, padding="same", use_bias=False))
        for group_size in (1, 8):
            for form in LeanConv2D.FORMS:
                layer = LeanConv2D(channels, "9-point", group_size, padding="same", use_bias=False, form=form)
                yield Row(told, f"lean g{group_size} {form}", (shape,), layer)


def _unrolled():
    """A block, and the same in the form of the authors' code."""
    import keras

    from convzoo.layers import CondConv2D, DepthwiseCondConv2D

    class UnrolledConv(CondConv2D):
        def convolve(self, images, routing_weights, training):
            return _one_by_one(self._conv, images, self.mix(routing_weights, self.kernel))

    class UnrolledDepthwise(DepthwiseCondConv2D):
        def convolve(self, images, routing_weights, training):
            def depthwise(image, kernel):
                return keras.ops.depthwise_conv(image, kernel, 1, "same", data_format="channels_last")

            return _one_by_one(depthwise, images, self.mix(routing_weights, self.depthwise_kernel))

    shape = (14, 14, 112)
    for batch in _UNROLLED_BATCHES:
        told = f"14x14, MBConv 112, batch {batch}"
        yield Row(told, "block", (shape,), _block(keras.layers.Conv2D, keras.layers.DepthwiseConv2D), batch)
        for name, conv, depthwise in (
            ("condconv block", CondConv2D, DepthwiseCondConv2D),
            ("condconv block, unrolled", UnrolledConv, UnrolledDepthwise),
        ):
            apply = _block(conv, depthwise, num_experts=_EXPERTS)
            yield Row(told, name, (shape, (_EXPERTS,)), apply, batch)


def _block(conv, depthwise, **arguments):
    """An MBConv block without squeeze and excitation; `arguments` go to its convolutions."""
    import keras

    arguments["use_bias"] = False

    def apply(images, *routing):
        silu = keras.activations.silu
        x = silu(_norm(conv(672, 1, **arguments)(images, *routing)))
        x = silu(_norm(depthwise(5, padding="same", **arguments)(x, *routing)))
        return _norm(conv(112, 1, **arguments)(x, *routing))

    return apply


def _norm(x):
    import keras

    return keras.layers.BatchNormalization()(x)


def _one_by_one(convolve, images, kernels):
    from keras import ops

    batch = images.shape[0]
    pairs = zip(ops.split(images, batch), ops.unstack(kernels), strict=True)
    return ops.concatenate([convolve(image, kernel) for image, kernel in pairs])


def _compile(row):
    """What the compiler says of forward and backward pass."""
    import keras
    import tensorflow as tf

    from convzoo.tpu import estimate
    from convzoo.tpu.chips import CHIPS

    batch = row.batch or BATCH.value
    dtypes = ["bfloat16"] + ["float32"] * (len(row.inputs) - 1)
    inputs = [keras.Input(shape, batch, dtype) for shape, dtype in zip(row.inputs, dtypes, strict=True)]
    model = keras.Model(inputs, row.apply(*inputs))
    specs = [tf.TensorSpec(given.shape, given.dtype) for given in (*inputs, model.outputs[0])]

    def step(*arguments):
        *values, gradient = arguments
        with tf.GradientTape() as tape:
            tape.watch(values)
            outputs = model(values, training=True)
        weights = [weight.value for weight in model.trainable_weights]
        return outputs, tape.gradient(outputs, [*values, *weights], output_gradients=gradient)

    found = estimate.estimate_step(step, specs, CHIPS[TOPOLOGY.value], batch)
    return {
        "seconds": [found.cost_seconds, found.bytes_seconds, found.scheduled_seconds],
        "temporaries": found.memory["temporaries"],
        "compile_seconds": found.compile_seconds,
        "date": datetime.date.today().isoformat(),
        "versions": found.versions,
    }


def _table(rows, found):
    table = []
    for row in rows:
        record = found.get(f"{row.size}: {row.name}", {"error": "the compiler broke"})
        plain = found.get(next(f"{other.size}: {other.name}" for other in rows if other.size == row.size), {})
        if "error" in record:
            table.append([row.size, row.name, f"not compiled: {record['error']}"])
            continue
        cells = [f"{1e6 * seconds:,.0f}" if seconds else "" for seconds in record["seconds"]]
        pairs = zip(record["seconds"], plain.get("seconds", [None] * 3), strict=True)
        ratios = [f"{seconds / of_plain:.2f}" if seconds and of_plain else "" for seconds, of_plain in pairs]
        memory, compiling = f"{record['temporaries'] / 1e6:.0f}", f"{record['compile_seconds']:.0f}"
        table.append([row.size, row.name, *cells, *ratios, memory, compiling])
    headers = [
        "size", "layer", "us by cost", "by bytes", "by schedule", "ratio by cost", "by bytes", "by schedule",
        "temporaries, MB", "s to compile",
    ]  # fmt: skip
    told = tabulate.tabulate(table, headers=headers, tablefmt="github", disable_numparse=True)
    dates = [record["date"] for record in found.values() if "date" in record]
    versions = {
        "jax {jax}, libtpu {libtpu}".format(**record["versions"]) for record in found.values() if "date" in record
    }
    if dates:
        span = min(dates) if min(dates) == max(dates) else f"{min(dates)} to {max(dates)}"
        told += f"\n\nOne {TOPOLOGY.value} chip, batch {BATCH.value}, {span}; {'; '.join(sorted(versions))}.\n"
    return told


if __name__ == "__main__":
    program.run(main)
