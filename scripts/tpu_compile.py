r"""Compiles the step of an experiment with the TPU compiler, on a machine without a TPU, and prints estimated costs.

    pip install -e ".[tpu-compile]"
    python scripts/tpu_compile.py --config=configs/efficientnet_condconv_imagenet.py:b0_8e --topology=v5e --batch=128

Several --config, or --set='NAME: config.FIELD=VALUE ...', make a table with ratios to the first row, as in
scripts/study.py. --by_layer prints the cost of each layer, --largest_batch searches the largest batch that fits, and
--chips=8 prints the hours of the whole schedule. --output writes all results as JSON.

Compiling a large network takes minutes. Nothing runs on a TPU: all times are estimates for a single chip, without
collective operations, input, evaluation and checkpoints. There are three estimates with different blind spots:

- Cost-analysis time: for each fusion, the longer of bytes over bandwidth and operations over peak. It does not count
  work within a fusion and is rounded where many operations have no cost.
- Bandwidth-bound time: all bytes of the cost analysis over the chip's bandwidth, or operations over peak if longer.
- Scheduled time: the cycles that the compiler's scheduler expects. It counts work within fusions, overestimates
  depthwise convolutions, and omits asynchronous copies.

Trust a ratio on which they agree. No estimate knows the trip count of a loop, so a program with loops has no times.
"""

import json
import os
import sys

import tabulate
from absl import flags

from convzoo.cli import program
from convzoo.errors import ConfigError, DataError

os.environ["CUDA_VISIBLE_DEVICES"] = "-1"  # with a GPU, TensorFlow would lower the step for it

CONFIG = flags.DEFINE_multi_string("config", [], "Config of a row, such as configs/x.py or FILE:VARIANT; repeatable.")
OVERRIDE = flags.DEFINE_multi_string("override", [], "Override of all rows, such as config.precision=float32.")
SET = flags.DEFINE_multi_string("set", [], "Further rows: 'NAME: config.FIELD=VALUE ...', for every config.")
TOPOLOGY = flags.DEFINE_enum("topology", "v5e", ["v4", "v5e", "v5p", "v6e"], "The chip.")
BATCH = flags.DEFINE_integer("batch", 128, "Examples per chip.", lower_bound=1)
PRECISION = flags.DEFINE_enum(
    "precision", "mixed_bfloat16", ["mixed_bfloat16", "float32"], "config.precision of all rows; an --override wins."
)
MODE = flags.DEFINE_enum(
    "mode", "train", ["train", "eval", "serve"], "A training step, an evaluation step, or the forward pass only."
)
CLASSES = flags.DEFINE_integer(
    "classes", None, "Number of classes. Default: that of the data, else that of the published network.", lower_bound=1
)
BY_LAYER = flags.DEFINE_bool("by_layer", False, "Print the cost of each layer, most expensive first.")
LARGEST_BATCH = flags.DEFINE_bool("largest_batch", False, "Search the largest batch that fits; compiles several times.")
CHIPS = flags.DEFINE_integer("chips", None, "Print the hours of the whole schedule on so many chips.", lower_bound=1)
EXAMPLES = flags.DEFINE_integer("examples", None, "Training examples. Default: those of the data.", lower_bound=1)
OUTPUT = flags.DEFINE_string("output", None, "JSON file for all results.")

# Classes and training examples of data that need not be on this machine.
_DATA_SIZES = {"tfds:imagenet2012": (1000, 1_281_167), "tfds:coco/2017": (80, 118_287)}
_MAX_LAYERS = 40
_ESTIMATES = {
    "cost_analysis_seconds": "cost analysis",
    "bandwidth_bound_seconds": "bandwidth-bound",
    "scheduled_seconds": "scheduled",
}


def main():
    program.require("config")
    from convzoo.cli.study_rows import check_unique, expand_rows
    from convzoo.configs.schema import validate
    from convzoo.tpu import compiler
    from convzoo.training import experiment

    if warning := compiler.check_installed():
        print(warning, flush=True)
    rows = []
    for name, path, fields in expand_rows(CONFIG.value, SET.value, OVERRIDE.value):
        if any(field.startswith("config.batch_size=") for field in fields):
            raise ConfigError("config.batch_size counts the examples of all chips; use --batch, the examples per chip")
        defaults = [f"config.precision={PRECISION.value}", f"config.batch_size={BATCH.value}"]
        config = program.read_config(path, [*defaults, *fields])
        validate(config, num_replicas=1)
        rows.append((name, config, *_data_size(config)))
    check_unique(name for name, *_ in rows)
    if CHIPS.value and MODE.value != "train":
        raise ConfigError(f"--chips={CHIPS.value} applies to training, not to --mode={MODE.value}; leave one out")
    for _, config, classes, _ in rows:
        experiment.build_model(config, classes)  # reports mistakes in all rows before the first is compiled
    if OUTPUT.value:
        program.check_folder(OUTPUT.value)
    records = []
    for name, config, classes, examples in rows:
        record = {"name": name, "batch": BATCH.value, "mode": MODE.value, "precision": config.precision}
        records.append({**record, **_estimate_row(name, config, classes, examples)})
        if OUTPUT.value:
            program.write_output(OUTPUT.value, json.dumps(records, indent=2) + "\n")
    if len(records) > 1:
        print(_comparison(records))
    if any("error" in record or "largest_batch_error" in record for record in records):
        sys.exit(1)


def _data_size(config):
    """Returns the number of classes, and the number of training examples or None."""
    from convzoo import models
    from convzoo.training import experiment

    is_known = config.data.train_split == "train" and config.data.source in _DATA_SIZES
    classes, examples = _DATA_SIZES[config.data.source] if is_known else (None, None)
    data_error = None
    if classes is None:
        try:
            source = experiment.open_source(config)
            classes, examples = source.num_classes, source.num_examples(config.data.train_split)
        except DataError as error:
            data_error = error
            classes = models.info(config.model.name).num_classes
    examples = EXAMPLES.value or examples
    if CHIPS.value and examples is None:
        raise ConfigError(
            f"--chips={CHIPS.value} requires the number of training examples ({data_error}); set --examples"
        )
    return CLASSES.value or classes, examples


def _estimate_row(name, config, classes, examples):
    """Compiles one row, prints its costs and returns its record."""
    from convzoo.tpu import chips, estimate
    from convzoo.tpu.compiler import CompilerError, DoesNotFitError
    from convzoo.tpu.lowering import NotForTPUError

    chip = chips.CHIPS[TOPOLOGY.value]
    print(
        f"{name}: {config.model.name}, {MODE.value}, batch {BATCH.value}, {config.precision}, one {chip.name} chip",
        flush=True,
    )
    record, fits = {"chip": chip.name}, True
    try:
        result = estimate.estimate(config, classes, chip, BATCH.value, MODE.value)
    except (CompilerError, NotForTPUError) as error:
        print(f"not compiled: {error}", file=sys.stderr, flush=True)
        record["error"], fits = str(error), False
        if not (LARGEST_BATCH.value and isinstance(error, DoesNotFitError)):
            return record
    else:
        record = result.as_json()
        print(_table(result), flush=True)
        if BY_LAYER.value:
            print(_layer_table(result), flush=True)
        if CHIPS.value:
            record["chips"], record["hours"] = CHIPS.value, result.hours(config.epochs * examples, CHIPS.value)
            times = "; ".join(
                f"{estimate_name.replace('_', ' ')}: {hours:.3g} hours, {hours * CHIPS.value:.3g} chip-hours"
                for estimate_name, hours in record["hours"].items()
            )
            print(
                f"{config.epochs:g} epochs of {examples} examples on {CHIPS.value} chips: {times or 'unknown'}",
                flush=True,
            )
    if LARGEST_BATCH.value:
        try:
            largest = estimate.largest_batch(config, classes, chip, BATCH.value, MODE.value, fits)
        except (CompilerError, NotForTPUError) as error:
            print(f"no largest batch: {error}", file=sys.stderr, flush=True)
            record["largest_batch_error"] = str(error)
        else:
            print(f"largest batch that fits, to one eighth: {largest}", flush=True)
            record["largest_batch"] = largest
    return record


def _table(result):
    without_cost = ", ".join(f"{name} {number}" for name, number in result.ops_without_cost.items()) or "none"
    loops = ", one iteration of each loop" if result.loops else ""
    names = {"batch": "batch and padding", "temporaries": "activations and temporaries"}
    rows = [
        ("compiled in", f"{result.compile_seconds:.0f} s, not run"),
        *((f"memory: {names.get(name, name)}", f"{size / 2**20:,.1f} MiB") for name, size in result.memory.items()),
        (
            "memory: total",
            f"{result.memory_used / 2**30:.2f} GiB, {result.memory_used / result.chip.memory:.0%} of the chip's memory",
        ),
        ("operations", f"{result.flops / 1e9:,.1f} GFLOP{loops}"),
        ("bytes by the cost analysis", f"{result.bytes_accessed / 1e9:.3f} GB{loops}"),
        ("bytes to and from memory", f"{result.memory_traffic / 1e9:.3f} GB, without padding{loops}"),
    ]
    if result.loops:
        rows.append(("estimated step", f"unknown: {result.loops} loops of unknown trip counts"))
    else:
        rows += [
            *((f"estimated step, {name.replace('_', ' ')}", _step(result, name)) for name in result.seconds),
            ("resolution of the cost analysis", f"{1e6 * result.cost_analysis_resolution:.1f} us per operation"),
            (
                "roofline of the compiled program",
                f"{1e3 * result.roofline_seconds:.3f} ms, bound by {result.bound}: "
                f"{result.roofline_seconds / result.bandwidth_bound_seconds:.0%} of the bandwidth-bound time, "
                f"{result.roofline_seconds / result.scheduled_seconds:.0%} of the scheduled time",
            ),
        ]
    rows.append(("operations without a cost", without_cost))
    return tabulate.tabulate(rows, tablefmt="plain", disable_numparse=True)


def _step(result, name):
    seconds = result.seconds[name]
    return f"{1e3 * seconds:.3f} ms, {result.images_per_second[name]:,.0f} images/s" if seconds else "unknown"


def _layer_table(result):
    rows = [
        (cost.layer, f"{1e3 * cost.seconds:.3f}", f"{cost.share:.1%}", f"{cost.bytes / 1e6:.1f}")
        for cost in result.layers[:_MAX_LAYERS]
    ]
    headers = ["layer", "ms, scheduled", "share", "MB to and from memory"]
    table = tabulate.tabulate(rows, headers=headers, disable_numparse=True)
    hidden = len(result.layers) - len(rows)
    return table + (f"\nand {hidden} more (--output contains all)" if hidden > 0 else "")


def _comparison(records):
    first, rows = records[0], []
    for record in records:
        if "error" in record:
            rows.append((record["name"], "not compiled"))
            continue
        cells = [record["name"], f"{record['memory_used'] / 2**30:.2f}", f"{record['flops'] / 1e9:,.1f}"]
        cells += [f"{1e3 * record[key]:.3f}" if record[key] else "" for key in _ESTIMATES]
        cells += [f"{record[key] / first[key]:.2f}" if record[key] and first.get(key) else "" for key in _ESTIMATES]
        rows.append(cells)
    names = _ESTIMATES.values()
    headers = ["", "GiB", "GFLOP", *(f"ms, {name}" for name in names), *(f"ratio, {name}" for name in names)]
    return tabulate.tabulate(rows, headers=headers, disable_numparse=True)


if __name__ == "__main__":
    program.run(main)
