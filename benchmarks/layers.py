r"""Times every implementation of the layers on this machine's CPU or GPU.

    python benchmarks/layers.py                          # all layers, forward and forward + backward
    python benchmarks/layers.py --only=depthwise --batch=8
    python benchmarks/layers.py --check                  # exit status 1 if "auto" is not close to the fastest

benchmarks/cases.py lists the layers. Times are ratios to the static layer of the same size, whose milliseconds stand in
the second column; all are timed in alternation, so that other load on the machine slows all alike. A star marks the
implementation that "auto" selects. The column before the last is another way to compute the layer:

- "unrolled": one convolution per example, as in CondConv's code.
- "masked": one grouped convolution with the kernels of all regions, masked and summed, as in other ports of DRConv.
- "groups=2": Keras's convolution in two equal groups.
- "in turn": a grouped 3x3 convolution and then a 1x1, as in MobileNet; a lean layer adds the two.

The time is the shortest of all rounds, in float32, in TensorFlow's graph mode without XLA. The environment variable
TF_ENABLE_ONEDNN_OPTS=0 selects other kernels on x86 CPUs and changes all ratios.
"""

import itertools
import sys

from absl import flags

from convzoo.benchmarks import report
from convzoo.benchmarks.timing import time_alternating
from convzoo.cli import program

BATCH = flags.DEFINE_integer("batch", 32, "Examples in a batch.", lower_bound=1)
REPEATS = flags.DEFINE_integer("repeats", 15, "Rounds; the shortest time counts.", lower_bound=1)
ONLY = flags.DEFINE_string("only", "", "Regular expression that the name of a layer must contain.")
TARGET = flags.DEFINE_enum("target", "cpu", ["cpu", "gpu", "tpu"], 'Target that "auto" selects implementations for.')
CHECK = flags.DEFINE_bool("check", False, 'Exit with status 1 if "auto" takes over 1.1 times the fastest time.')
report.define_output()

_TOLERANCE = 1.1


def main():
    import tensorflow as tf

    from convzoo import layers
    from convzoo.benchmarks import cases

    tf.get_logger().setLevel("ERROR")  # no warnings about many tf.functions
    layers.set_target(TARGET.value)
    selected = cases.select(cases.layer_cases(), ONLY.value)
    result = report.start("benchmarks/layers.py", batch=BATCH.value, rounds=REPEATS.value, target=TARGET.value)
    result["results"], tables, slow = [], [], []
    for mode in ("forward", "forward + backward"):
        for _, group in itertools.groupby(selected, lambda case: case.reference_name):
            group = list(group)
            columns = dict.fromkeys(name for case in group for name in case.variants if name not in case.targets)
            rows = []
            for case in group:
                milliseconds, auto = _measure(case, mode != "forward")
                result["results"].append({"layer": case.name, "mode": mode, "auto": auto, "milliseconds": milliseconds})
                rows.append(_row(case, mode, milliseconds, auto, columns))
                if float(rows[-1]["auto / fastest"]) > _TOLERANCE:
                    slow.append(f"{case.name}, {mode}: {rows[-1]['auto / fastest']}")
            tables.append(report.table(rows))
            print(f"\n{tables[-1]}", flush=True)
    facts = f"Batch {BATCH.value}, {cases.NUM_EXPERTS} experts, {cases.NUM_REGIONS} regions, target {TARGET.value}"
    report.finish(result, tables, facts, f"ratios of the shortest of {REPEATS.value} rounds to the static layer")
    if CHECK.value and slow:
        print(f"auto takes over {_TOLERANCE} times the fastest implementation:", *slow, sep="\n  ", file=sys.stderr)
        sys.exit(1)


def _row(case, mode, milliseconds, auto, columns):
    static = milliseconds["static"]
    cells = {name: f"{milliseconds[name] / static:.2f}" if name in milliseconds else "" for name in columns}
    cells[auto] += "*"
    fastest = min(milliseconds[name] for name in columns if name in milliseconds)
    return {
        mode: case.name,
        "static ms": f"{static:.1f}",
        **cells,
        case.reference_name: f"{milliseconds[case.reference_name] / static:.2f}",
        "auto / fastest": f"{milliseconds[auto] / fastest:.2f}",
    }


def _measure(case, backward):
    """Returns milliseconds of static layer, implementations and reference, and the implementation that auto selects."""
    import tensorflow as tf

    from convzoo.benchmarks import cases

    inputs = [tf.random.normal((BATCH.value, *case.inputs[0]))]
    for shape in case.inputs[1:]:
        if len(shape) == 1:
            inputs.append(tf.random.uniform((BATCH.value, *shape)))
        else:
            regions = tf.random.uniform((BATCH.value, *shape[:2]), 0, shape[2], tf.int32)
            inputs.append(tf.one_hot(regions, shape[2]))
    functions = {name: function for name, function in case.variants.items() if name not in case.targets}
    functions[case.reference_name] = case.reference
    calls = {"static": _compile(case.static, case.inputs[:1], inputs[:1], backward)}
    calls |= {name: _compile(function, case.inputs, inputs, backward) for name, function in functions.items()}
    milliseconds = {name: 1000 * min(values) for name, values in time_alternating(calls, REPEATS.value).items()}
    if not case.auto.built:
        cases.build_model(case.auto, case.inputs, BATCH.value)
    return milliseconds, case.auto.choose_implementation(inputs[0].shape, training=backward)


def _compile(function, shapes, inputs, backward):
    """Returns a compiled call of `function`, with the gradients of inputs and weights if `backward`."""
    import tensorflow as tf

    from convzoo.benchmarks.cases import build_model

    model = build_model(function, shapes, BATCH.value)
    weights = [weight.value for weight in model.trainable_weights]

    @tf.function(autograph=False)
    def step(inputs):
        if not backward:
            return model(inputs, training=False)
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            outputs = model(inputs, training=True)
            loss = tf.reduce_mean(outputs * outputs)
        # Returning the loss keeps the forward pass in the graph, as in training.
        return loss, tape.gradient(loss, [*inputs, *weights], unconnected_gradients="zero")

    step(inputs)
    # Reading the loss waits for the step.
    return lambda: tf.nest.map_structure(lambda tensor: tensor.numpy() if not tensor.shape.rank else None, step(inputs))


if __name__ == "__main__":
    program.run(main)
