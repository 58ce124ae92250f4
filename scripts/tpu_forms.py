r"""What the TPU compiler says of the forms of a layer: the table behind what `form="auto"` takes on a TPU.

    python scripts/tpu_forms.py                       # five minutes on two cores that did other work
    python scripts/tpu_forms.py --only='*g8*' --topology=v6e

Forward and backward pass of one layer, batch 128, bfloat16 with float32 weights, compiled for one chip and not run.
Columns as in scripts/tpu_compile.py; ratios are to the first row of each size, the plain layer.
"""

import fnmatch
import os

import tabulate
from absl import flags

from convzoo.training import program

os.environ["CUDA_VISIBLE_DEVICES"] = "-1"  # a GPU would have the step lowered for itself

TOPOLOGY = flags.DEFINE_enum("topology", "v5e", ["v4", "v5e", "v5p", "v6e"], "The chip.")
ONLY = flags.DEFINE_string("only", "*", "Rows of such names, with shell wildcards; the plain layers stay.")
BATCH = flags.DEFINE_integer("batch", 128, "Examples on the chip.", lower_bound=1)

_PLAIN = "full convolution"


def main():
    import keras

    from convzoo import layers
    from convzoo.tpu import compiler
    from convzoo.tpu.chips import CHIPS
    from convzoo.training.config import ConfigError

    try:
        compiler.check_installed()
    except compiler.CompilerError as error:
        raise ConfigError(str(error)) from error
    keras.config.set_dtype_policy("mixed_bfloat16")
    layers.set_target("tpu")
    wanted = [row for row in _rows() if row[1] == _PLAIN or fnmatch.fnmatchcase(row[1], ONLY.value)]
    if all(name == _PLAIN for _, name, _ in wanted):
        raise ConfigError(f"no row is called --only={ONLY.value}")
    table, first = [], {}
    for size, name, layer in wanted:
        program_of_layer = _compile(layer, size, CHIPS[TOPOLOGY.value])
        first.setdefault(size, program_of_layer)
        cells = [f"{1e6 * seconds:,.0f}" for seconds in program_of_layer]
        ratios = [f"{seconds / of_plain:.2f}" for seconds, of_plain in zip(program_of_layer, first[size], strict=True)]
        table.append(["x".join(map(str, size)), name, *cells, *ratios])
        print(f"{table[-1][0]} {name}: {' '.join(ratios)}", flush=True)
    headers = ["size", "layer", "us by cost", "by bytes", "by schedule", "ratio by cost", "by bytes", "by schedule"]
    print(tabulate.tabulate(table, headers=headers, tablefmt="github", disable_numparse=True))


def _rows():
    """Size of the input, name and layer of each row."""
    import keras

    from convzoo.layers import LeanConv2D

    for size in ((14, 14, 256), (28, 28, 128), (56, 56, 64)):
        channels = size[-1]
        yield size, _PLAIN, keras.layers.Conv2D(channels, 3, padding="same", use_bias=False)
        for group_size in (1, 8):
            for form in ("split", "blocks", "dense", "taps"):
                name = f"lean g{group_size} {form}"
                yield size, name, LeanConv2D(channels, "9-point", group_size, padding="same", use_bias=False, form=form)


def _compile(layer, size, chip):
    """Seconds of the layer's forward and backward pass: by cost, by bytes, by schedule."""
    import keras
    import tensorflow as tf

    from convzoo.tpu import estimate

    inputs = keras.Input(size, dtype="bfloat16")
    model = keras.Model(inputs, layer(inputs))
    spec = tf.TensorSpec((BATCH.value, *size), tf.bfloat16)

    def step(images, gradient):
        with tf.GradientTape() as tape:
            tape.watch(images)
            outputs = model(images, training=True)
        weights = [weight.value for weight in model.trainable_weights]
        return outputs, tape.gradient(outputs, [images, *weights], output_gradients=gradient)

    found = estimate.estimate_step(step, (spec, spec), chip, BATCH.value)
    return found.cost_seconds, found.bytes_seconds, found.scheduled_seconds


if __name__ == "__main__":
    program.run(main)
