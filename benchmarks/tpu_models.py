"""Compiles the training step of every network for a TPU, and writes a table of the compiler's estimates.

    python benchmarks/tpu_models.py --records=docs/records/tpu_v5e.jsonl --kernels=docs/records/tpu_kernels.jsonl \\
        --markers=docs/tpu.md                          # every network; takes hours
    python benchmarks/tpu_models.py --records=v6e.jsonl --topology=v6e --networks='*seesaw*'
    python benchmarks/tpu_models.py --records=docs/records/tpu_v5e.jsonl --table_only

Compiles forward pass, backward pass and update at batch 128 in mixed bfloat16 for one chip; nothing runs. If the step
does not fit the chip's memory, the batch is halved. Times are estimates, see scripts/tpu_compile.py; ratios are per
image, to the baseline network. Every result is appended to --records at once, and the same command continues with the
remaining networks. --kernels adds the results of benchmarks/tpu_kernels.sh.
"""

import datetime
import fnmatch
import sys

from absl import flags

from convzoo.benchmarks import records, report
from convzoo.benchmarks.baselines import BASELINES
from convzoo.cli import markdown, program
from convzoo.errors import ConfigError
from convzoo.tpu.chips import CHIPS

TOPOLOGY = flags.DEFINE_enum("topology", "v5e", sorted(CHIPS), "TPU generation; one chip is compiled for.")
RECORDS = flags.DEFINE_string("records", None, "JSON-lines file of the results.")
NETWORKS = flags.DEFINE_string("networks", "*", "Names with shell wildcards.")
KERNELS = flags.DEFINE_string("kernels", None, "Records of benchmarks/tpu_kernels.py, shown as a column.")
MARKERS = flags.DEFINE_string(
    "markers", None, "Markdown file; the table is written between <!-- tpu_models:CHIP --> and its end marker."
)
TABLE_ONLY = flags.DEFINE_bool("table_only", False, "Write the table of existing records without compiling.")

_BATCH = 128
_KIND = "network"
_ESTIMATES = {"cost analysis": "cost_analysis", "bandwidth bound": "bandwidth_bound", "scheduled": "scheduled"}


def main():
    from convzoo.tpu import compiler

    marker = f"tpu_models:{TOPOLOGY.value}"
    program.require("records")
    all_names = [name for baseline, others in BASELINES.items() for name in (baseline, *others)]
    names = fnmatch.filter(all_names, NETWORKS.value)
    if not names:
        raise ConfigError(
            f"no network matches --networks={NETWORKS.value}; convzoo.models.list_models() lists the names"
        )
    if MARKERS.value:
        markdown.check_markers(MARKERS.value, marker)
    kernels = records.read(KERNELS.value, "kernels") if KERNELS.value else {}
    found = records.read(RECORDS.value, _KIND, chip=TOPOLOGY.value)
    missing = [name for name in names if name not in found]
    if not TABLE_ONLY.value:
        program.check_folder(RECORDS.value, "records")
        if message := compiler.check_installed():
            print(message, flush=True)
        for number, name in enumerate(missing, start=1):
            print(f"{number}/{len(missing)} {name}", flush=True)
            if record := _compile(name):
                found[name] = record
                records.append(RECORDS.value, _KIND, name, record)
                _write_table(found, kernels, marker)
    if not found:
        raise ConfigError(
            f"--records={RECORDS.value} has no {TOPOLOGY.value} networks; compile some without --table_only"
        )
    print(_write_table(found, kernels, marker))
    is_incomplete = not TABLE_ONLY.value and any(name not in found for name in names)
    if is_incomplete or any("error" in found[name] for name in names if name in found):
        sys.exit(1)


def _compile(name):
    """Returns the record of a network, or None if the compiler crashed."""
    from convzoo import models
    from convzoo.configs import base
    from convzoo.tpu import estimate
    from convzoo.tpu.compiler import CompilerCrashError, CompilerError, DoesNotFitError
    from convzoo.tpu.lowering import NotForTPUError

    config = base.get_config()
    with config.unlocked():
        config.model.name, config.precision = name, "mixed_bfloat16"
        config.optimizer.learning_rate, config.ema_decay = 0.1, 0.9999
        config.weight_decay, config.label_smoothing = 1e-5, 0.1
    chip, batch = CHIPS[TOPOLOGY.value], _BATCH
    common = {"chip": chip.name, "date": datetime.date.today().isoformat()}
    while True:
        try:
            result = estimate.estimate(config, models.info(name).num_classes, chip, batch).as_json()
            del result["layers"]  # scripts/tpu_compile.py --by_layer prints them
            return {**result, **common}
        except DoesNotFitError as error:
            if batch == 1:
                return {"error": str(error), **common}
            batch //= 2
        except CompilerCrashError as error:
            print(f"{name}: {error}; the next run tries again", file=sys.stderr, flush=True)
            return None
        except (CompilerError, NotForTPUError) as error:
            return {"error": str(error), **common}


def _write_table(found, kernels, marker):
    rows = []
    for baseline, others in BASELINES.items():
        for name in (baseline, *others):
            if name in found:
                of_baseline = found.get(baseline) if name != baseline else None
                rows.append({**_row(name, found[name], of_baseline), "TensorFlow's kernels": _kernels(name, kernels)})
    table = report.table(rows)
    if compiled := [record for record in found.values() if "versions" in record]:
        table += f"\n\n{len(rows)} networks on one {TOPOLOGY.value} chip; {report.dates_and_versions(compiled)}."
    if MARKERS.value:
        markdown.write_between(MARKERS.value, marker, f"\n{table}\n")
    return table


def _kernels(name, kernels):
    if name not in kernels:
        return "not checked"
    return kernels[name]["problem"] or "supported"


def _row(name, record, baseline):
    if "error" in record:
        name = f"{name} (not compiled: {record['error']})"
    rates = record.get("images_per_second", {})
    of_baseline = (baseline or {}).get("images_per_second", {})
    row = {
        "network": name,
        "batch": str(record.get("batch_size", "")),
        "GiB": f"{record['memory_used'] / 2**30:.2f}" if "memory_used" in record else "",
    }
    for column, estimate in _ESTIMATES.items():
        seconds = record.get(f"{estimate}_seconds")
        row[f"{column}, ms"] = f"{1e3 * seconds:.2f}" if seconds else ""
    for column, estimate in _ESTIMATES.items():
        row[f"{column}, images/s"] = f"{rates[estimate]:,.0f}" if estimate in rates else ""
    for column, estimate in _ESTIMATES.items():
        known = estimate in rates and estimate in of_baseline
        row[f"{column}, ratio"] = f"{of_baseline[estimate] / rates[estimate]:.2f}" if known else ""
    return row


if __name__ == "__main__":
    program.run(main)
