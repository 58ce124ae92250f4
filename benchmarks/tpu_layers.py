"""Compiles the implementations of a layer for a TPU: the table behind `implementation="auto"` with the target "tpu".

    python benchmarks/tpu_layers.py --only=uneven
    python benchmarks/tpu_layers.py --topology=v6e --records=layers_v6e.jsonl
    python benchmarks/tpu_layers.py --records=layers_v5e.jsonl --markers=docs/implementations.md

Compiles forward and backward pass of each case of benchmarks/cases.py for one chip, in bfloat16 with float32 weights;
nothing runs. Times are estimates of the TPU compiler, see scripts/tpu_compile.py; ratios are to the static counterpart.
A computation with a loop over examples has no times, because the trip count is unknown. All cases take most of an hour
on two cores. Every result is appended to --records at once, and the same command continues with the remaining cases.
"""

import datetime
import sys

from absl import flags

from convzoo.benchmarks import records, report
from convzoo.cli import markdown, program
from convzoo.errors import ConfigError
from convzoo.tpu.chips import CHIPS

TOPOLOGY = flags.DEFINE_enum("topology", "v5e", sorted(CHIPS), "TPU generation; one chip is compiled for.")
BATCH = flags.DEFINE_integer("batch", 128, "Batch size of the layers.", lower_bound=1)
ONLY = flags.DEFINE_string("only", "", "Regular expression that the name of a case must contain.")
RECORDS = flags.DEFINE_string("records", None, "JSON-lines file of the results.")
MARKERS = flags.DEFINE_string(
    "markers", None, "Markdown file; the table is written between <!-- tpu_layers:CHIP --> and its end marker."
)
_ESTIMATES = ("cost_analysis_seconds", "bandwidth_bound_seconds", "scheduled_seconds")
_KIND = "layer"


def main():
    from convzoo import layers
    from convzoo.benchmarks import cases
    from convzoo.tpu import compiler
    from convzoo.tpu.lowering import NotForTPUError

    marker = f"tpu_layers:{TOPOLOGY.value}"
    selected = cases.select([*cases.layer_cases(), *cases.block_cases()], ONLY.value)
    found = records.read(RECORDS.value, _KIND, chip=TOPOLOGY.value) if RECORDS.value else {}
    if RECORDS.value:
        program.check_folder(RECORDS.value, "records")
    if MARKERS.value:
        markdown.check_markers(MARKERS.value, marker)
    if message := compiler.check_installed():
        print(message, flush=True)
    is_complete = True
    rows = {}
    for case in selected:
        batch = case.batch_size or BATCH.value
        functions = {case.static_name: (case.static, case.inputs[:1])}
        functions |= {f"{case.layer} {name}": (variant, case.inputs) for name, variant in case.variants.items()}
        for name, (function, shapes) in functions.items():
            key = f"{case.size}: {name}"
            if key not in found or found[key].get("batch_size", batch) != batch:
                print(key, flush=True)
                layers.set_target(case.targets.get(name.removeprefix(f"{case.layer} "), "tpu"))
                try:
                    result = _compile(function, shapes, batch)
                except compiler.CompilerCrashError as error:
                    print(f"{key}: {error}; the next run tries again", file=sys.stderr, flush=True)
                    is_complete = False
                    continue
                except (compiler.CompilerError, NotForTPUError) as error:
                    result = {"error": str(error)}
                found[key] = {
                    "chip": TOPOLOGY.value, "batch_size": batch, **result, "date": datetime.date.today().isoformat()
                }  # fmt: skip
                if RECORDS.value:
                    records.append(RECORDS.value, _KIND, key, found[key])
            rows[key] = _row(case.size, name, found[key], found.get(f"{case.size}: {case.static_name}", {}))
    if not rows:
        raise ConfigError(f"nothing was compiled: the compiler crashed for every case of --only={ONLY.value}")
    compiled = [found[key] for key in rows if "versions" in found[key]]
    table = report.table(list(rows.values()), left=2)
    if compiled:
        table += f"\n\nOne {TOPOLOGY.value} chip; {report.dates_and_versions(compiled)}."
    print(table)
    if MARKERS.value:
        markdown.write_between(MARKERS.value, marker, f"\n{table}\n")
    if not is_complete:
        sys.exit(1)


def _compile(function, shapes, batch):
    """Returns the compiler's estimates of the forward and backward pass."""
    import tensorflow as tf

    from convzoo.benchmarks.cases import build_model
    from convzoo.tpu import estimate

    model = build_model(function, shapes, batch, "bfloat16")
    specs = [tf.TensorSpec(tensor.shape, tensor.dtype) for tensor in (*model.inputs, model.outputs[0])]

    def step(*arguments):
        *values, gradient = arguments
        with tf.GradientTape() as tape:
            tape.watch(values)
            outputs = model(values, training=True)
        weights = [weight.value for weight in model.trainable_weights]
        return outputs, tape.gradient(outputs, [*values, *weights], output_gradients=gradient)

    result = estimate.estimate_step(step, specs, CHIPS[TOPOLOGY.value], batch)
    return {
        **{name: getattr(result, name) for name in _ESTIMATES},
        "temporaries": result.memory["temporaries"],
        "compile_seconds": result.compile_seconds,
        "versions": result.versions,
    }


def _row(size, name, record, static):
    columns = ["cost analysis", "bandwidth bound", "scheduled"]
    row = {"size": size, "layer": name}
    if "error" in record:
        row["layer"] += f" (not compiled: {record['error']})"
    for column, estimate in zip(columns, _ESTIMATES, strict=True):
        seconds = record.get(estimate)
        row[f"{column}, µs"] = f"{1e6 * seconds:,.0f}" if seconds else ""
    for column, estimate in zip(columns, _ESTIMATES, strict=True):
        seconds, of_static = record.get(estimate), static.get(estimate)
        row[f"{column}, ratio"] = f"{seconds / of_static:.2f}" if seconds and of_static else ""
    row["temporaries, MB"] = f"{record['temporaries'] / 1e6:.0f}" if "temporaries" in record else ""
    row["compile, s"] = f"{record['compile_seconds']:.0f}" if "compile_seconds" in record else ""
    return row


if __name__ == "__main__":
    program.run(main)
