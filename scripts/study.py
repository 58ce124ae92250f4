r"""Trains and evaluates several configs, or changes of them, with several seeds each, and writes one table.

    python scripts/study.py --workdir=runs/studies/experts --seeds=3 --override=config.epochs=1 \
        --config=configs/x.py:static --config=configs/x.py:8e \
        --set='low: config.optimizer.learning_rate=0.01' --markers=README.md:experts

Every --config is a row of the table, and so is every pair of a --config and a --set. A --set has a name and the fields
that it changes; an --override changes a field in all rows. train.py trains each row with the seeds 0, 1, ..., and
eval.py evaluates it. Seed 0 of all rows comes first, so that an interrupted study compares all rows equally.

The workdir of a run is WORKDIR/ROW/seed_K. WORKDIR/study.json contains all results, times, commands and versions,
WORKDIR/table.md the table. Both are written after every run. The same command resumes an interrupted study: it skips
finished runs and repeats failed ones. With more seeds or rows it makes the missing runs. Rows that a command leaves out
disappear from the table; their runs are kept. A failed run does not stop the others; the exit status is then 1.

--jobs=2 --devices=cpu makes two runs at the same time, each on half of the CPU cores, because small networks do not
use many cores well. The images per second are then those of one run.

--checkpoint=best selects the checkpoint with the best metric on the config's eval_split. If --split is the same split,
its result is biased upwards; use --checkpoint=newest then.
"""

import argparse
import os
import platform
import shlex
import sys

from absl import flags

from convzoo.cli import program
from convzoo.errors import ConfigError

# This process only counts multiply-adds and leaves the accelerator to the programs that it starts.
_CHILD_ENVIRONMENT = dict(os.environ)
os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
os.environ.pop("TF_PLUGGABLE_DEVICE_LIBRARY_PATH", None)

WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the study, local or gs://.")
CONFIG = flags.DEFINE_multi_string("config", [], "Config of a row, such as configs/x.py or FILE:VARIANT; repeatable.")
OVERRIDE = flags.DEFINE_multi_string("override", [], "Override of all rows, such as config.epochs=1; repeatable.")
SET = flags.DEFINE_multi_string(
    "set", [], "Further rows: 'NAME: config.FIELD=VALUE ...', for every config; repeatable."
)
SEEDS = flags.DEFINE_integer("seeds", 3, "Number of runs of each row.", lower_bound=1)
JOBS = flags.DEFINE_integer("jobs", 1, "Simultaneous runs, which share the CPU cores.", lower_bound=1)
CHECKPOINT = flags.DEFINE_enum("checkpoint", "best", ["best", "newest"], "Checkpoint to evaluate.")
SPLIT = flags.DEFINE_string("split", "test", "Split to evaluate on.")
MARKERS = flags.DEFINE_string(
    "markers", None, "FILE:NAME: also write the table between <!-- study:NAME --> and <!-- /study:NAME --> of FILE."
)
TABLE_ONLY = flags.DEFINE_bool("table_only", False, "Only write the table of the existing runs.")
program.define_devices()


def main():
    program.require("workdir")

    from convzoo.cli.markdown import check_markers, write_between
    from convzoo.cli.study import FAILED, RECORD_FILE, Study
    from convzoo.cli.study_runner import StudyRunner, divide_cores
    from convzoo.training.workdir import lock_workdir

    def write_table():
        if MARKERS.value:
            write_between(path, f"study:{name}", study.table())

    if MARKERS.value:
        path, _, name = MARKERS.value.rpartition(":")
        if not (path and name):
            raise ConfigError(f"cannot read --markers={MARKERS.value}; write FILE:NAME")
        check_markers(path, f"study:{name}")
    study = Study(WORKDIR.value)
    if TABLE_ONLY.value:
        if not study.rows:
            raise ConfigError(f"--workdir={WORKDIR.value} has no {RECORD_FILE}; leave out --table_only")
        study.write()
        write_table()
        return
    program.require("config")
    core_sets = divide_cores(JOBS.value, flags.FLAGS.devices)
    _set_rows(study)
    device_flags = [
        f"--{name}={flags.FLAGS[name].value}"
        for name in ("tpu", "tpu_zone", "gcp_project", "devices")
        if flags.FLAGS[name].value
    ]
    with lock_workdir(WORKDIR.value, "study") as lock:
        runner = StudyRunner(
            study,
            device_flags=device_flags,
            environment=_CHILD_ENVIRONMENT,
            core_sets=core_sets,
            lock=lock,
            on_run_end=write_table,
        )
        runner.run(SEEDS.value)
    write_table()
    if failed := sum(len(study.runs_with(FAILED, row)) for row in study.rows):
        print(f"study.py: {failed} runs failed; the same command repeats them", file=sys.stderr)
        sys.exit(1)


def _set_rows(study):
    """Checks the rows of this command and replaces those of the study."""
    from convzoo.cli.study_rows import check_unique, expand_rows

    for name, value in (("checkpoint", CHECKPOINT.value), ("split", SPLIT.value)):
        if study.runs and study.about[name] != value:
            raise ConfigError(
                f"the study in --workdir={WORKDIR.value} evaluates --{name}={study.about[name]}, not {value}; choose "
                "another --workdir"
            )
    rows = [_make_row(study, *row) for row in expand_rows(CONFIG.value, SET.value, OVERRIDE.value)]
    check_unique(row["name"] for row in rows)
    if len(metrics := {row["metric"]["title"] for row in rows}) > 1:
        raise ConfigError(f"the rows have different metrics ({', '.join(sorted(metrics))}); compare rows of one task")
    check_unique(row["folder"] for row in rows)
    # --markers does not belong to the experiment, so the recorded command leaves it out.
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--markers")
    _, arguments = parser.parse_known_args(sys.argv[1:])
    study.rows = rows
    study.about = {
        "checkpoint": CHECKPOINT.value,
        "split": SPLIT.value,
        "command": shlex.join(["python", "scripts/study.py", *arguments]),
        "machine": {"processor": platform.machine(), "cores": os.cpu_count(), "python": platform.python_version()},
    }


def _make_row(study, name, path, fields):
    """Returns a row as in `Study.rows`, after checks of its config, its data and its existing runs."""
    from convzoo.cli.study_rows import make_row
    from convzoo.training import experiment
    from convzoo.training.workdir import has_config, save_or_verify_config

    for field in fields:
        if field.startswith("config.seed="):
            raise ConfigError(f"the study sets the seeds, so {field} has no effect; use --seeds")
    config = program.read_config(path, fields)
    row = make_row(name, path, fields, study.rows)
    experiment.open_source(config).num_examples(SPLIT.value)
    for seed in range(SEEDS.value):
        workdir = os.path.join(WORKDIR.value, row["folder"], f"seed_{seed}")
        if has_config(workdir):
            run_config = config.copy_and_resolve_references()
            run_config.seed = seed
            save_or_verify_config(run_config, workdir)
    return row


if __name__ == "__main__":
    program.run(main)
