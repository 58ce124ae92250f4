r"""Times every form of the layers against the plain layer, on this machine's CPU or GPU.

    python scripts/benchmark_layers.py                          # all layers, forward and forward + backward
    python scripts/benchmark_layers.py --only=depthwise --batch=8
    python scripts/benchmark_layers.py --check                  # exit 1 if "auto" is not close to the best form

The shapes are those of the conditional blocks of CondConv-EfficientNet-B0, two of MobileNetV1 on small pictures, a few
3 x 3 convolutions and a classifier; of the region-aware blocks of DRConv-ShuffleNetV2 and MobileNetV2; of Seesaw-Net's
blocks; of ResNet's. Every column is a ratio to the plain layer of the same shape, timed in the same run, turn about, so
that a busy machine slows both; the plain layer's own milliseconds stand beside. The last form is no form of the layers,
but what they are held against: "unrolled", the way of CondConv's authors, is a convolution for each example of a batch
of known size; "masked", the way of other ports of DRConv, is a convolution of each image with the kernels of all its
regions, in groups, masked and summed; "groups=2" is Keras's convolution in two equal groups; "in turn" is MobileNet's
way, the stencil's convolution and then the 1 x 1, where a lean layer adds them. A star marks the form that "auto"
takes.

The time is the shortest of all repeats. TensorFlow, graph mode, without XLA. `TF_ENABLE_ONEDNN_OPTS=0` changes which
kernels TensorFlow uses on x86 CPUs and with it all ratios; it is printed.
"""

import functools
import itertools
import os
import re
import sys

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # as our programs have it

import keras
import tensorflow as tf
from absl import app, flags
from tabulate import tabulate

from convzoo.layers import (
    CondConv2D,
    CondDense,
    DepthwiseCondConv2D,
    DRConv2D,
    LeanConv2D,
    UnevenPointwiseConv2D,
    set_target,
)
from convzoo.training.timing import turn_about

FLAGS = flags.FLAGS
flags.DEFINE_integer("batch", 32, "Examples in a batch.", lower_bound=1)
flags.DEFINE_integer("num_experts", 8, "Experts of each conditional layer.", lower_bound=1)
flags.DEFINE_integer("regions", 8, "Regions of each region-aware layer.", lower_bound=1)
flags.DEFINE_integer("repeats", 15, "Timings of each form, turn about; the shortest counts.", lower_bound=1)
flags.DEFINE_string("only", "", "Regular expression: time only the layers whose line matches it.")
flags.DEFINE_enum("target", "cpu", ["cpu", "gpu", "tpu"], "The device that auto is chosen for.")
flags.DEFINE_bool("check", False, "Exit 1 if auto takes more than 1.1 times the best form's time somewhere.")

TOLERANCE = 1.1


class Case:
    """A layer at a shape: its plain counterpart, its forms, and the usual way.

    A subclass says what the layer is called with besides its inputs, and what the usual way is.
    """

    USUAL = ""

    def __init__(self, line, input_shape, kind, plain, arguments, own=None):
        self.line, self.input_shape, self.kind, self.plain = line, input_shape, kind, plain
        self.arguments, self.own = arguments, own or {}

    def layer(self, form):
        """The layer in this form."""
        return self.kind(use_bias=False, form=form, **self.arguments, **self.own)

    def forms(self):
        """Each form that applies here, with its layer."""
        for form in self.kind.FORMS:
            try:
                yield form, self.layer(form)
            except ValueError as error:
                if "does not apply" not in str(error):
                    raise

    def second(self):
        """The layer's second argument."""
        raise NotImplementedError

    def function(self, layer):
        """The layer as a function of both."""
        return layer

    def usual(self, layer):
        """What `layer` is held against: a function of both, and its weights."""
        raise NotImplementedError


class ExpertCase(Case):
    USUAL = "unrolled"

    def __init__(self, *arguments):
        super().__init__(*arguments, own={"num_experts": FLAGS.num_experts})

    def second(self):
        return tf.random.uniform((FLAGS.batch, FLAGS.num_experts))

    def usual(self, layer):
        return unrolled(layer), layer.weights


class RegionCase(Case):
    USUAL = "masked"

    def second(self):
        layer = self.layer("auto")
        sizes = layer.compute_output_sizes(self.input_shape[:2])
        return tf.one_hot(tf.random.uniform((FLAGS.batch, *sizes), 0, layer.regions, tf.int32), layer.regions)

    def usual(self, layer):
        return masked(layer), layer.weights


class AloneCase(Case):
    """A layer that is called with its inputs alone."""

    def second(self):
        return tf.zeros((FLAGS.batch,))

    def function(self, layer):
        return lambda x, _: layer(x)


class GroupCase(AloneCase):
    USUAL = "groups=2"

    def usual(self, layer):
        grouped = keras.layers.Conv2D(layer.filters, 1, groups=2, use_bias=False)
        grouped.build((None, *self.input_shape))
        return lambda x, _: grouped(x), grouped.weights


class LeanCase(AloneCase):
    USUAL = "in turn"

    def usual(self, layer):
        named = {"strides": layer.strides, "padding": "same", "use_bias": False}
        if layer.group_size == 1:
            spatial = keras.layers.DepthwiseConv2D(3, **named)
        else:
            spatial = keras.layers.Conv2D(layer.channels, 3, groups=layer.groups, **named)
        both = keras.Sequential([spatial, keras.layers.Conv2D(layer.filters, 1, use_bias=False)])
        both.build((None, *self.input_shape))
        return lambda x, _: both(x), both.weights


def cases():
    for size, channels, filters in ((14, 112, 672), (14, 672, 112), (7, 192, 1152), (7, 1152, 192)):
        yield ExpertCase(
            f"point-wise {size}x{size} {channels}->{filters}",
            (size, size, channels),
            CondConv2D,
            keras.layers.Conv2D,
            {"filters": filters, "kernel_size": 1},
        )
    windows = ((5, 14, 672, 1), (5, 14, 672, 2), (5, 7, 1152, 1), (3, 7, 1152, 1), (3, 14, 128, 1), (3, 4, 128, 1))
    for kernel, size, channels, strides in windows:
        yield ExpertCase(
            f"depthwise k{kernel} {size}x{size} {channels} s{strides}",
            (size, size, channels),
            DepthwiseCondConv2D,
            keras.layers.DepthwiseConv2D,
            {"kernel_size": kernel, "strides": strides, "padding": "same"},
        )
    for size, channels in ((14, 128), (7, 256)):
        yield ExpertCase(
            f"k3 {size}x{size} {channels}->{channels}",
            (size, size, channels),
            CondConv2D,
            keras.layers.Conv2D,
            {"filters": channels, "kernel_size": 3, "padding": "same"},
        )
    yield ExpertCase("dense 1280->1000", (1280,), CondDense, keras.layers.Dense, {"units": 1000})
    # DRConv-ShuffleNetV2 0.5x and 1.0x, MobileNetV2's expansions and projections, and larger windows.
    own = {"regions": FLAGS.regions}
    shapes = ((28, 24, 24), (14, 48, 48), (7, 96, 96), (28, 58, 58), (14, 116, 116), (7, 232, 232))
    for size, channels, filters in (*shapes, (28, 32, 192), (14, 64, 384), (14, 384, 64)):
        yield RegionCase(
            f"region point-wise {size}x{size} {channels}->{filters}",
            (size, size, channels),
            DRConv2D,
            keras.layers.Conv2D,
            {"filters": filters, "kernel_size": 1},
            own,
        )
    for line, kernel_size, generator in (("one region", 1, {"regions": 1}), ("k3", 3, own)):
        yield RegionCase(
            f"region {line} 14x14 48->48",
            (14, 14, 48),
            DRConv2D,
            keras.layers.Conv2D,
            {"filters": 48, "kernel_size": kernel_size, "padding": "same"},
            generator,
        )
    for size, channels in ((28, 24), (14, 48), (7, 96)):
        yield RegionCase(
            f"region grouped {size}x{size} {channels}->{channels}",
            (size, size, channels),
            DRConv2D,
            keras.layers.Conv2D,
            {"filters": channels, "kernel_size": 1},
            {**own, "generator": "grouped"},
        )
    for size, channels, filters in ((56, 24, 144), (28, 192, 32), (14, 64, 384), (14, 576, 96), (7, 160, 960)):
        for ratio in ((1, 3), (1, 1)):
            yield GroupCase(
                f"groups {ratio[0]}:{ratio[1]} {size}x{size} {channels}->{filters}",
                (size, size, channels),
                UnevenPointwiseConv2D,
                functools.partial(keras.layers.Conv2D, kernel_size=1),
                {"filters": filters},
                {"ratio": ratio},
            )
    # ResNet's, and the first of a stage.
    for size, channels, filters, strides in (
        (56, 64, 64, 1),
        (28, 128, 128, 1),
        (14, 256, 256, 1),
        (7, 512, 512, 1),
        (28, 128, 256, 2),
    ):
        for stencil, group_size in (
            ("9-point", 1),
            ("5-point", 1),
            ("3-point-horizontal", 1),
            ("9-point", 8),
            ("9-point", 16),
        ):
            yield LeanCase(
                f"lean {stencil} g{group_size} {size}x{size} {channels}->{filters} s{strides}",
                (size, size, channels),
                LeanConv2D,
                functools.partial(keras.layers.Conv2D, kernel_size=3),
                {"filters": filters, "strides": strides, "padding": "same"},
                {"stencil": stencil, "group_size": group_size},
            )


def unrolled(layer):
    """The layer's function with one convolution for each example, in a Python loop over a batch of known size."""
    if isinstance(layer, CondDense):
        return lambda x, a: tf.concat(
            [
                tf.matmul(one, k)
                for one, k in zip(tf.split(x, x.shape[0]), tf.unstack(layer.mix(a, layer.kernel)), strict=True)
            ],
            0,
        )
    weight = layer.depthwise_kernel if isinstance(layer, DepthwiseCondConv2D) else layer.kernel
    convolution = tf.nn.depthwise_conv2d if isinstance(layer, DepthwiseCondConv2D) else tf.nn.conv2d
    strides, padding = (1, *layer.strides, 1), layer.padding.upper()

    def function(x, a):
        kernels = tf.unstack(layer.mix(a, weight), num=x.shape[0])
        examples = tf.split(x, x.shape[0])
        return tf.concat([convolution(one, k, strides, padding) for one, k in zip(examples, kernels, strict=True)], 0)

    return function


def masked(layer):
    """The layer's function by all outputs of all regions, the batch folded into groups, as other ports compute it."""
    regions, filters, padding = layer.regions, layer.filters, layer.padding.upper()

    def function(x, mask):
        batch, height, width, channels = x.shape
        kernels = tf.reshape(layer.generate_kernels(x), (batch, regions, *layer.kernel_size, channels, filters))
        kernels = tf.reshape(tf.transpose(kernels, (2, 3, 4, 0, 1, 5)), (*layer.kernel_size, channels, -1))
        folded = tf.reshape(tf.transpose(x, (1, 2, 0, 3)), (1, height, width, batch * channels))
        y = tf.nn.conv2d(folded, kernels, (1, *layer.strides, 1), padding)
        y = tf.reshape(y, (*y.shape[1:3], batch, regions, filters))
        return tf.reduce_sum(tf.transpose(y, (2, 0, 1, 3, 4)) * mask[..., None], axis=3)

    return function


def step(function, weights, x, a, backward):
    """A compiled call of `function(x, a)`, with the gradients of inputs, routing and weights if `backward`."""

    @tf.function(autograph=False)
    def run(x, a):
        if not backward:
            return function(x, a)
        with tf.GradientTape() as tape:
            tape.watch((x, a))
            y = function(x, a)
            loss = tf.reduce_mean(y * y)
        # The loss keeps the forward pass alive, as a network's own loss would.
        return loss, tape.gradient(loss, [x, a, *[w.value for w in weights]], unconnected_gradients="zero")

    run(x, a)
    return lambda: tf.nest.map_structure(lambda t: t.numpy() if t.shape.rank == 0 else t, run(x, a))


def measure(case, backward):
    """Milliseconds of the plain layer, of each form, and of the usual way; and the form that auto takes."""
    x, a = tf.random.normal((FLAGS.batch, *case.input_shape)), case.second()
    plain = case.plain(use_bias=False, **case.arguments)
    plain(x)
    steps = {"plain": step(lambda x, a: plain(x), plain.weights, x, a, backward)}
    for form, layer in case.forms():
        function = case.function(layer)
        function(x, a)
        steps[form] = step(function, layer.weights, x, a, backward)
    steps[case.USUAL] = step(*case.usual(layer), x, a, backward)
    auto = case.layer("auto")
    case.function(auto)(x, a)
    times = {name: 1000 * min(seconds) for name, seconds in turn_about(steps, FLAGS.repeats).items()}
    return times, auto.choose_form(x.shape, training=backward)


def table(chosen, backward, slow):
    """One table of cases whose usual way is the same; notes in `slow` where auto is not close to the best form."""
    usual = chosen[0].USUAL
    forms = list(dict.fromkeys(form for case in chosen for form in case.kind.FORMS))
    rows = []
    for case in chosen:
        times, auto = measure(case, backward)
        plain, of_usual = times.pop("plain"), times.pop(usual)
        worse = times[auto] / min(times.values())
        if worse > TOLERANCE:
            slow.append(f"{case.line}, {'forward + backward' if backward else 'forward'}: {worse:.2f}")
        cells = [f"{times[f] / plain:.2f}{'*' if f == auto else ''}" if f in times else "" for f in forms]
        rows.append([case.line, f"{plain:.1f}", *cells, f"{of_usual / plain:.2f}", f"{worse:.2f}"])
    return tabulate(rows, ["layer", "plain ms", *forms, usual, "auto / best"], disable_numparse=True, stralign="right")


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"arguments {argv[1:]} are not known")
    tf.get_logger().setLevel("ERROR")  # its advice against many functions, which are the point here
    set_target(FLAGS.target)
    chosen = [case for case in cases() if re.search(FLAGS.only, case.line)]
    if not chosen:
        raise app.UsageError(f"--only={FLAGS.only} matches no layer")
    slow = []
    for backward in (False, True):
        print(
            f"\n{'forward + backward' if backward else 'forward'}, batch {FLAGS.batch}, {FLAGS.num_experts} experts, "
            f"{FLAGS.regions} regions, target {FLAGS.target}, "
            f"TF_ENABLE_ONEDNN_OPTS={os.environ.get('TF_ENABLE_ONEDNN_OPTS', 'unset')}; "
            "times as multiples of the plain layer's"
        )
        for _, of_kind in itertools.groupby(chosen, lambda case: case.USUAL):
            print(table(list(of_kind), backward, slow), "\n", flush=True)
    if FLAGS.check and slow:
        print(f"auto takes more than {TOLERANCE} times the best form's time:", *slow, sep="\n  ")
        sys.exit(1)


if __name__ == "__main__":
    app.run(main)
