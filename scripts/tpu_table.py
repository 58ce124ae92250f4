r"""Compiles the training step of every network of the papers for a TPU, and of the ordinary network that it replaces.

    scripts/tpu_ops.sh --output=docs/tpu_compile/ops.json
    python scripts/tpu_table.py --workdir=docs/tpu_compile --ops=docs/tpu_compile/ops.json --markers=docs/tpu_compile.md

A large network takes minutes to compile. WORKDIR/CHIP/NETWORK.json keeps what was found, so that the same command goes
on where it was stopped, and the table is written after each network. To compile one anew, because what it computes was
changed, remove its file. Batch 128 in bfloat16, or the largest power of two that fits; the recipe of CondConv's
EfficientNet for all, because optimiser and moving average take memory and time too. Figures and columns are those of
scripts/tpu_compile.py: estimates, not run.
"""

import datetime
import fnmatch
import json
import os
import sys

import tabulate
from absl import flags

from convzoo.training import program

os.environ["CUDA_VISIBLE_DEVICES"] = "-1"  # a GPU would have the step lowered for itself

WORKDIR = flags.DEFINE_string("workdir", None, "Folder for what was found.")
TOPOLOGY = flags.DEFINE_enum("topology", "v5e", ["v4", "v5e", "v5p", "v6e"], "The chip.")
NETWORKS = flags.DEFINE_string("networks", "*", "Of the table's networks, those of such names, with shell wildcards.")
OPS = flags.DEFINE_string("ops", None, "What scripts/tpu_ops.py wrote; its verdict becomes a column.")
MARKERS = flags.DEFINE_string(
    "markers", None, "A Markdown file: the table goes between <!-- tpu_table:CHIP --> and <!-- /tpu_table:CHIP -->."
)
TABLE_ONLY = flags.DEFINE_bool("table_only", False, "Only write the table of what was found.")

_BATCH = 128
# The ordinary network, and those that replace its convolutions.
_TWINS = {
    "efficientnet_b0": (
        "efficientnet_condconv_b0_8e", "efficientnet_condconv_b0_4e", "efficientnet_condconv_b0_8e_depth",
    ),
    "shufflenet_v2_x0_5": ("shufflenet_v2_drconv_x0_5",),
    "resnet34": ("lean_resnet34",),
    "mobilenet_v2_x1_0": (
        "seesawnet_shuffle_1_0d", "seesawnet_share_v0_1_0d", "seesawnet_share_v1_1_0d", "igcv3_1_0d",
        "seesawnet_shuffle_0_5d", "seesawnet_share_v0_0_5d", "seesawnet_share_v1_0_5d", "igcv3_0_5d",
        "mobilenet_v2_condconv_x1_0", "mobilenet_v2_drconv_x1_0",
    ),
    "mobilenet_v1_x0_25": ("mobilenet_v1_condconv_x0_25", "mobilenet_v1_drconv_x0_25"),
    "mobilenet_v1_x0_5": ("mobilenet_v1_condconv_x0_5", "mobilenet_v1_drconv_x0_5"),
    "mobilenet_v1_x0_75": ("mobilenet_v1_condconv_x0_75", "mobilenet_v1_drconv_x0_75"),
    "mobilenet_v1_x1_0": ("mobilenet_v1_condconv_x1_0", "mobilenet_v1_drconv_x1_0"),
    "shufflenet_v2_x1_0": ("shufflenet_v2_drconv_x1_0",),
    "shufflenet_v2_x1_5": ("shufflenet_v2_drconv_x1_5",),
    "shufflenet_v2_x2_0": ("shufflenet_v2_drconv_x2_0",),
    "mnasnet_a1": ("mnasnet_a1_condconv",),
    "resnet18": ("lean_resnet18",),
    "resnet50": ("lean_resnet50", "resnet50_condconv"),
    "mobilenet_v2_x1_0_cifar": (
        "seesawnet_shuffle_1_0d_cifar", "seesawnet_share_v0_1_0d_cifar", "seesawnet_share_v1_1_0d_cifar",
        "seesawnet_shuffle_0_5d_cifar", "seesawnet_share_v0_0_5d_cifar", "seesawnet_share_v1_0_5d_cifar",
        "igcv3_1_0d_cifar", "igcv3_0_5d_cifar",
    ),
    "resnet18_cifar": ("lean_resnet18_cifar",),
    "resnet34_cifar": ("lean_resnet34_cifar",),
    "resnet50_cifar": ("lean_resnet50_cifar",),
}  # fmt: skip


def main():
    program.require("workdir")
    from convzoo.tpu import compiler
    from convzoo.training import markdown
    from convzoo.training.config import ConfigError

    if MARKERS.value:
        markdown.check_markers(MARKERS.value, f"tpu_table:{TOPOLOGY.value}")
    wanted = [name for twin, others in _TWINS.items() for name in (twin, *others) if _is_wanted(name)]
    if not wanted:
        raise ConfigError(f"the table has no network that is called --networks={NETWORKS.value}")
    verdicts = _verdicts()
    if not TABLE_ONLY.value:
        program.check_folder(_path(wanted[0]), "workdir")
        try:
            if told := compiler.check_installed():
                print(told, flush=True)
        except compiler.CompilerError as error:
            raise ConfigError(str(error)) from error
        for number, name in enumerate(wanted, start=1):
            if not os.path.exists(_path(name)):
                print(f"{number}/{len(wanted)} {name}", flush=True)
                _compile(name)
                _write_table(verdicts)
    elif not any(os.path.exists(_path(name)) for twin, others in _TWINS.items() for name in (twin, *others)):
        raise ConfigError(f"--workdir={WORKDIR.value} has nothing of {TOPOLOGY.value} yet; leave out --table_only")
    print(_write_table(verdicts))
    missing = [name for name in wanted if not os.path.exists(_path(name))]
    if (missing and not TABLE_ONLY.value) or any("error" in _read(_path(name)) for name in set(wanted) - set(missing)):
        sys.exit(1)


def _is_wanted(name):
    return fnmatch.fnmatchcase(name, NETWORKS.value)


def _path(name):
    return os.path.join(WORKDIR.value, TOPOLOGY.value, f"{name}.json")


def _verdicts():
    """By network, None or what TensorFlow's kernels refuse."""
    from convzoo.training.config import ConfigError

    if not OPS.value:
        return {}
    kept = _read(OPS.value)
    if not isinstance(kept, dict) or not isinstance(kept.get("problems"), dict):
        raise ConfigError(f"--ops={OPS.value} is not from scripts/tpu_ops.py; choose what that wrote with --output")
    return kept["problems"]


def _read(path):
    import tensorflow as tf

    from convzoo.training.config import ConfigError, first_line
    from convzoo.training.files import read_text

    try:
        return json.loads(read_text(path))
    except (tf.errors.OpError, OSError, ValueError) as error:
        raise ConfigError(f"cannot read {path} ({first_line(error)}); remove it and make it anew") from error


def _compile(name):
    from convzoo import models
    from convzoo.configs import base
    from convzoo.tpu import estimate
    from convzoo.tpu.chips import CHIPS
    from convzoo.tpu.compiler import BrokenCompilerError, CompilerError, DoesNotFitError
    from convzoo.tpu.lowering import NotForTPUError

    config = base.get_config()
    with config.unlocked():
        config.model.name, config.precision = name, "mixed_bfloat16"
        config.optimizer.learning_rate, config.ema_decay = 0.1, 0.9999
        config.weight_decay, config.label_smoothing = 1e-5, 0.1
    batch = _BATCH
    while True:
        try:
            found = estimate.estimate(config, models.info(name).num_classes, CHIPS[TOPOLOGY.value], batch)
            record = {**found.as_json(), "date": datetime.date.today().isoformat()}
            del record["parts"]  # scripts/tpu_compile.py --by_layer has them
        except DoesNotFitError as error:
            if batch > 1:
                batch //= 2
                continue
            record = {"error": str(error)}
        except BrokenCompilerError as error:
            print(f"{name}: {error}; it is tried again next time", file=sys.stderr, flush=True)
            return
        except (CompilerError, NotForTPUError) as error:
            record = {"error": str(error)}
        break
    program.write_output(_path(name), json.dumps(record, indent=2) + "\n", "workdir")


def _write_table(verdicts):
    from convzoo.training import markdown

    rows, dates, versions = [], set(), set()
    for twin, others in _TWINS.items():
        first = None
        for name in (twin, *others):
            if not os.path.exists(_path(name)):
                continue
            record = _read(_path(name))
            first = record if name == twin else first
            verdict = {None: "legal"}.get(verdicts[name], verdicts[name]) if name in verdicts else "not asked"
            if "error" in record:
                rows.append([f"`{name}`", "", f"not compiled: {record['error']}", *[""] * 8, verdict])
                continue
            dates.add(record["date"])
            versions.add("jax {jax}, libtpu {libtpu}".format(**record["versions"]))
            rows.append([f"`{name}`", *_cells(record, first if name != twin else None), verdict])
    headers = [
        "network", "batch", "GiB", "ms by cost", "by bytes", "by schedule", "images/s by bytes", "by schedule",
        "ratio by cost", "by bytes", "by schedule", "TensorFlow's kernels",
    ]  # fmt: skip
    table = tabulate.tabulate(rows, headers=headers, tablefmt="github", disable_numparse=True)
    if dates:
        span = min(dates) if len(dates) == 1 else f"{min(dates)} to {max(dates)}"
        table += f"\n\n{len(rows)} networks on one {TOPOLOGY.value} chip, {span}; {'; '.join(sorted(versions))}.\n"
    if not rows:
        return "nothing was compiled"
    if MARKERS.value:
        markdown.write_between(MARKERS.value, f"tpu_table:{TOPOLOGY.value}", f"\n{table}\n")
    else:
        program.write_output(os.path.join(WORKDIR.value, f"{TOPOLOGY.value}.md"), table, "workdir")
    return table


def _cells(record, first):
    rates = record["images_per_second"]
    seconds = [record[name] for name in ("cost_seconds", "bytes_seconds", "scheduled_seconds")]
    cells = [
        record["batch_size"],
        f"{record['memory_used'] / 2**30:.2f}",
        *(f"{1e3 * number:.2f}" if number else "" for number in seconds),
        *(f"{rates[by]:,.0f}" if by in rates else "" for by in ("by_bytes", "by_schedule")),
    ]
    if first is None or "error" in first:
        return [*cells, "", "", ""]
    # By the image: the batches may differ.
    of_twin = first["images_per_second"]
    return cells + [
        f"{of_twin[by] / rates[by]:.2f}" if by in of_twin and by in rates else ""
        for by in ("by_cost", "by_bytes", "by_schedule")
    ]


if __name__ == "__main__":
    program.run(main)
