r"""Compiles the step of an experiment with the TPU compiler, on a machine without a TPU, and says what it would cost.

    pip install -e ".[tpu-compile]"
    python scripts/tpu_compile.py --config=configs/efficientnet_condconv_imagenet.py:b0_8e --topology=v5e --batch=128

Several --config, or --set='NAME: config.FIELD=VALUE ...', make a table with ratios to the first row, as in
scripts/study.py. --by_layer lists what each layer takes; --largest_batch searches the largest batch that fits;
--chips=8 tells the hours of the whole schedule. --output keeps everything as JSON.

Compiling a large network takes minutes. Nothing runs on a TPU: all times are estimates, for one chip alone, without
sums over chips, input, evaluation and checkpoints. There are three, which are blind in different places. "By cost" is
the compiler's cost analysis: bytes over bandwidth or operations over the peak, whichever takes longer, for each fusion;
it sees no work within one, and is rounded where many operations have no cost. "By bytes" is all the bytes that it
counts over the chip's bandwidth, or the operations over the peak if that takes longer. "By schedule" is the sum of the
cycles that its scheduler expects: it sees the work within fusions, is hard on depthwise convolutions, and leaves out
copies that run beside the rest. Trust a ratio on which they agree. None counts the turns of a loop: of a program with
loops no times are told.
"""

import collections
import json
import os
import sys

import tabulate
from absl import flags

from convzoo.training import program

os.environ["CUDA_VISIBLE_DEVICES"] = "-1"  # a GPU would have the step lowered for itself

CONFIG = flags.DEFINE_multi_string("config", [], "A row's config, as configs/x.py or FILE:VARIANT; repeat it.")
OVERRIDE = flags.DEFINE_multi_string("override", [], "A changed field of all rows, as config.precision=float32.")
SET = flags.DEFINE_multi_string("set", [], "Further rows: 'NAME: config.FIELD=VALUE ...', with every config.")
TOPOLOGY = flags.DEFINE_enum("topology", "v5e", ["v4", "v5e", "v5p", "v6e"], "The chip.")
BATCH = flags.DEFINE_integer("batch", 128, "Examples on the chip.", lower_bound=1)
PRECISION = flags.DEFINE_enum(
    "precision", "mixed_bfloat16", ["mixed_bfloat16", "float32"], "Of the computation; an --override goes before."
)
WHAT = flags.DEFINE_enum(
    "what", "train", ["train", "eval", "serve"], "A whole training step, a step of evaluation, or the network alone."
)
CLASSES = flags.DEFINE_integer("classes", None, "Default: those of the data, else the network's own.", lower_bound=1)
BY_LAYER = flags.DEFINE_bool("by_layer", False, "What each layer takes, dearest first.")
LARGEST_BATCH = flags.DEFINE_bool("largest_batch", False, "Search the largest batch that fits; compiles several times.")
CHIPS = flags.DEFINE_integer("chips", None, "Tell the hours of the whole schedule on so many chips.", lower_bound=1)
EXAMPLES = flags.DEFINE_integer("examples", None, "Of the training split; default: those of the data.", lower_bound=1)
OUTPUT = flags.DEFINE_string("output", None, "A JSON file for all that is known.")

# The embedded knowledge of a data set that few have on the machine on which they ask.
_KNOWN = {"tfds:imagenet2012": (1000, 1_281_167)}
_SHOWN_LAYERS = 40


def main():
    program.require("config")
    from convzoo.tpu import compiler
    from convzoo.training import experiment
    from convzoo.training.config import ConfigError, validate
    from convzoo.training.rows import rows

    try:
        if told := compiler.check_installed():
            print(told, flush=True)
    except compiler.CompilerError as error:
        raise ConfigError(str(error)) from error
    named = []
    for name, path, fields in rows(CONFIG.value, SET.value, OVERRIDE.value):
        if any(field.startswith("config.batch_size=") for field in fields):
            raise ConfigError("config.batch_size is that of all chips; --batch tells the examples on one")
        own = [f"config.precision={PRECISION.value}", f"config.batch_size={BATCH.value}"]
        config = program.read_config(path, [*own, *fields])
        validate(config, num_replicas=1)
        named.append((name, config, *_data(config)))
    twice = [name for name, times in collections.Counter(name for name, *_ in named).items() if times > 1]
    if twice:
        raise ConfigError(f"two rows would be called {twice[0]!r}; rename a config file, its variant or a --set")
    if CHIPS.value and WHAT.value != "train":
        raise ConfigError(f"--chips={CHIPS.value} tells of a training and --what={WHAT.value} is none; leave one out")
    for _, config, classes, _ in named:
        experiment.build_model(config, classes)  # a mistake in the last row is told before the first is compiled
    if OUTPUT.value:
        program.check_folder(OUTPUT.value)
    records = []
    for name, config, classes, examples in named:
        record = {"name": name, "batch": BATCH.value, "what": WHAT.value, "precision": config.precision}
        records.append({**record, **_look_at(name, config, classes, examples)})
        if OUTPUT.value:
            program.write_output(OUTPUT.value, json.dumps(records, indent=2) + "\n")
    if len(records) > 1:
        print(_comparison(records))
    if any("error" in record or "largest_batch_error" in record for record in records):
        sys.exit(1)


def _data(config):
    """Number of classes, and of training examples if it is known."""
    from convzoo import data, models
    from convzoo.training import experiment
    from convzoo.training.config import ConfigError

    known = config.data.train_split == "train" and config.data.source in _KNOWN
    classes, examples = _KNOWN[config.data.source] if known else (None, None)
    missing = None
    if classes is None:
        try:
            source = experiment.open_source(config)
            classes, examples = source.num_classes, source.num_examples(config.data.train_split)
        except data.DataError as error:
            missing = error
            classes = models.info(config.model.name).num_classes
    examples = EXAMPLES.value or examples
    if CHIPS.value and examples is None:
        raise ConfigError(f"--chips={CHIPS.value} needs the number of training examples: {missing}; or tell --examples")
    return CLASSES.value or classes, examples


def _look_at(name, config, classes, examples):
    """Compiles one row and prints what came of it; returns its record."""
    from convzoo.tpu import estimate
    from convzoo.tpu.chips import CHIPS as KNOWN_CHIPS
    from convzoo.tpu.compiler import CompilerError, DoesNotFitError
    from convzoo.tpu.lowering import NotForTPUError

    chip = KNOWN_CHIPS[TOPOLOGY.value]
    print(f"{name}: {config.model.name}, {WHAT.value}, batch {BATCH.value}, {config.precision}, one {chip.name} chip")
    sys.stdout.flush()
    record, fits = {"chip": chip.name}, True
    try:
        found = estimate.estimate(config, classes, chip, BATCH.value, WHAT.value)
    except (CompilerError, NotForTPUError) as error:
        print(f"not compiled: {error}", file=sys.stderr, flush=True)
        record["error"], fits = str(error), False
        if not (LARGEST_BATCH.value and isinstance(error, DoesNotFitError)):
            return record
    else:
        record = found.as_json()
        print(_table(found), flush=True)
        if BY_LAYER.value:
            print(_layers(found), flush=True)
        if CHIPS.value:
            record["chips"], record["hours"] = CHIPS.value, found.hours(config.epochs * examples, CHIPS.value)
            told = ", ".join(
                f"{hours:.3g} hours and {hours * CHIPS.value:.3g} chip-hours {by.replace('_', ' ')}"
                for by, hours in record["hours"].items()
            )
            told = told or "not known"
            print(f"{config.epochs:g} epochs of {examples} examples on {CHIPS.value} chips: {told}", flush=True)
    if LARGEST_BATCH.value:
        try:
            largest = estimate.largest_batch(config, classes, chip, BATCH.value, WHAT.value, fits)
        except (CompilerError, NotForTPUError) as error:
            print(f"no largest batch: {error}", file=sys.stderr, flush=True)
            record["largest_batch_error"] = str(error)
        else:
            print(f"largest batch that fits, to an eighth: {largest}", flush=True)
            record["largest_batch"] = largest
    return record


def _table(found):
    rates = found.images_per_second
    share = found.memory_used / found.chip.memory
    blind = ", ".join(f"{name} {number}" for name, number in found.uncosted.items()) or "nothing"
    once = ", of each loop one turn" if found.loops else ""
    words = {"batch": "batch and padding", "temporaries": "activations and temporaries"}
    rows = [
        ("compiled in", f"{found.compile_seconds:.0f} s, not run"),
        *((f"memory: {words.get(name, name)}", f"{size / 2**20:,.1f} MiB") for name, size in found.memory.items()),
        ("memory: all", f"{found.memory_used / 2**30:.2f} GiB, {share:.0%} of the chip's"),
        ("operations", f"{found.flops / 1e9:,.1f} GFLOP{once}"),
        ("bytes by the cost analysis", f"{found.bytes_accessed / 1e9:.3f} GB{once}"),
        ("bytes to and from memory, counted", f"{found.memory_traffic / 1e9:.3f} GB, without padding{once}"),
    ]
    if found.loops:
        rows.append(("estimated step", f"not known: {found.loops} loops, and no estimate counts their turns"))
    else:
        rows += [
            (
                "estimated step, by cost",
                f"{_step(found.cost_seconds, rates.get('by_cost'))}; "
                f"each operation to {1e6 * found.cost_resolution:.1f} us",
            ),
            ("estimated step, by bytes", _step(found.bytes_seconds, rates["by_bytes"])),
            ("estimated step, by schedule", _step(found.scheduled_seconds, rates["by_schedule"])),
            (
                "roofline of the compiled program",
                f"{1e3 * found.floor_seconds:.3f} ms, bound by {found.bound}: "
                f"{found.floor_seconds / found.bytes_seconds:.0%} of the time by bytes, "
                f"{found.floor_seconds / found.scheduled_seconds:.0%} by schedule",
            ),
        ]
    rows.append(("without a cost", blind))
    return tabulate.tabulate(rows, tablefmt="plain", disable_numparse=True)


def _step(seconds, rate):
    return f"{1e3 * seconds:.3f} ms, {rate:,.0f} images/s" if seconds else "not known"


def _layers(found):
    rows = [
        (part.layer, f"{1e3 * part.seconds:.3f}", f"{part.share:.1%}", f"{part.bytes / 1e6:.1f}")
        for part in found.parts[:_SHOWN_LAYERS]
    ]
    left = len(found.parts) - len(rows)
    table = tabulate.tabulate(
        rows, headers=["layer", "ms by schedule", "share", "MB to and from memory"], disable_numparse=True
    )
    return table + (f"\nand {left} more (--output has them)" if left > 0 else "")


def _comparison(records):
    first, rows = records[0], []
    estimates = ("cost_seconds", "bytes_seconds", "scheduled_seconds")
    for record in records:
        if "error" in record:
            rows.append((record["name"], "not compiled"))
            continue
        cells = [record["name"], f"{record['memory_used'] / 2**30:.2f}", f"{record['flops'] / 1e9:,.1f}"]
        cells += [f"{1e3 * record[name]:.3f}" if record[name] else "" for name in estimates]
        cells += [f"{record[name] / first[name]:.2f}" if record[name] and first.get(name) else "" for name in estimates]
        rows.append(cells)
    by = ("cost", "bytes", "schedule")
    headers = ["", "GiB", "GFLOP", *(f"ms by {name}" for name in by), *(f"ratio by {name}" for name in by)]
    return tabulate.tabulate(rows, headers=headers, disable_numparse=True)


if __name__ == "__main__":
    program.run(main)
