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

A --sweep is a field with several values: it turns every row into one row for each value, and several sweeps into one
for each combination. A --search is a field with a range; Optuna (pip install -e '.[search]') proposes --trials rows for
each of the rows above, the next from the results of those before:

    python scripts/study.py --workdir=runs/studies/grid --config=configs/x.py --seeds=1 --split=val \
        --sweep=config.optimizer.learning_rate=0.05,0.1,0.2 --sweep=config.weight_decay=0.0,1e-4
    python scripts/study.py --workdir=runs/studies/search --config=configs/x.py --seeds=1 --split=val --trials=20 \
        --search='config.optimizer.learning_rate=float(0.01, 1.0, log)' --search='config.ema_decay=choice(0.0, 0.99)'

--folds=5 is cross-validation: each row trains five times a seed, without one fifth of its training split, and is
evaluated on that fifth. Slices of a split in percent do not overlap, see docs/data.md.

--checkpoint=best selects the checkpoint with the best metric on the config's eval_split. If --split is the same split,
its result is biased upwards; use --checkpoint=newest then.
"""

import argparse
import os
import platform
import shlex
import statistics
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
SWEEP = flags.DEFINE_multi_string("sweep", [], "'config.FIELD=VALUE,VALUE': a row for each value; repeatable.")
SEARCH = flags.DEFINE_multi_string(
    "search",
    [],
    "'config.FIELD=float(LOW, HIGH)', 'float(LOW, HIGH, log)', 'int(LOW, HIGH)' or 'choice(VALUE, VALUE)': a field "
    "whose values Optuna proposes; repeatable.",
)
TRIALS = flags.DEFINE_integer("trials", None, "Number of proposals of --search for each row.", lower_bound=1)
FOLDS = flags.DEFINE_integer("folds", None, "Parts of the training split for cross-validation.", lower_bound=2)
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
    from convzoo.cli.study import FAILED, RECORD_FILE, Study, run_keys
    from convzoo.cli.study_runner import StudyRunner, divide_cores
    from convzoo.cli.study_search import parse_space
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
    if bool(SEARCH.value) != bool(TRIALS.value):
        raise ConfigError("--search and --trials belong together; give both or none")
    if FOLDS.value and (CHECKPOINT.value == "best" or flags.FLAGS["split"].present):
        raise ConfigError(
            f"--folds={FOLDS.value} evaluates the fold that would select the best checkpoint; give "
            "--checkpoint=newest, and no --split"
        )
    core_sets, space = divide_cores(JOBS.value, flags.FLAGS.devices), parse_space(SEARCH.value) if SEARCH.value else {}
    keys = run_keys(SEEDS.value, FOLDS.value)
    bases = _set_rows(study, keys, space)
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
        runner.run(keys)
        while space and (new_rows := _propose_rows(study, bases, keys, space)):
            runner.run(keys, new_rows)
    write_table()
    for base, *_ in bases if space else ():
        if results := [(value, row) for row, value in _trials(study, base) if value is not None]:
            value, row = max(results, key=lambda result: result[0])
            print(f"{base}: best {study.metric_title} {value:.2f} %: {row['name']}, {row['flags']}")
    if failed := sum(len(study.runs_with(FAILED, row)) for row in study.rows):
        print(f"study.py: {failed} runs failed; the same command repeats them", file=sys.stderr)
        sys.exit(1)


def _set_rows(study, keys, space):
    """Checks the rows of this command and replaces those of the study. Returns the arguments of the rows."""
    from convzoo.cli.study_rows import check_unique, expand_rows
    from convzoo.cli.study_search import propose

    for name, value in (("checkpoint", CHECKPOINT.value), ("split", SPLIT.value), ("folds", FOLDS.value)):
        if study.runs and study.about.get(name) != value:
            raise ConfigError(
                f"the study in --workdir={WORKDIR.value} has --{name}={study.about.get(name)}, not {value}; choose "
                "another --workdir"
            )
    bases = list(expand_rows(CONFIG.value, SET.value, OVERRIDE.value, SWEEP.value))
    rows = [_make_row(study, keys, *base) for base in bases]
    check_unique(row["name"] for row in rows)
    if len(metrics := {row["metric"]["title"] for row in rows}) > 1:
        raise ConfigError(f"the rows have different metrics ({', '.join(sorted(metrics))}); compare rows of one task")
    check_unique(row["folder"] for row in rows)
    if space:
        (proposal,) = propose(space, [], 1)
        for _, path, fields in bases:
            program.read_config(path, [*fields, *_changes(proposal)])  # reports unknown fields
        rows = [row for base in bases for row in _recorded_trials(study, keys, base, space)]
    # --markers does not belong to the experiment, so the recorded command leaves it out.
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--markers")
    _, arguments = parser.parse_known_args(sys.argv[1:])
    study.rows = rows
    study.about = {
        "checkpoint": CHECKPOINT.value,
        "split": SPLIT.value,
        "folds": FOLDS.value,
        "command": shlex.join(["python", "scripts/study.py", *arguments]),
        "machine": {"processor": platform.machine(), "cores": os.cpu_count(), "python": platform.python_version()},
    }
    return bases


def _make_row(study, keys, name, path, fields):
    """Returns a row as in `Study.rows`, after checks of its config, its data and its existing runs."""
    from convzoo.cli.study_rows import fold_splits, make_row
    from convzoo.training import experiment
    from convzoo.training.workdir import has_config, save_or_verify_config

    for field in fields:
        if field.startswith("config.seed="):
            raise ConfigError(f"the study sets the seeds, so {field} has no effect; use --seeds")
    config = program.read_config(path, fields)
    row = make_row(name, path, fields, study.rows)
    source = experiment.open_source(config)
    for key in keys:
        split, run_fields = SPLIT.value, []
        if key.fold is not None:
            run_fields, split = fold_splits(config.data.train_split, key.fold, FOLDS.value)
        source.num_examples(split)
        workdir = os.path.join(WORKDIR.value, row["folder"], key.name)
        if has_config(workdir):
            run_config = program.read_config(path, [*fields, *run_fields, f"config.seed={key.seed}"])
            save_or_verify_config(run_config, workdir)
    return row


def _make_trial(study, keys, base, number, parameters):
    """Returns a row of a search: that of `base` with the proposed values."""
    name, path, fields = base
    row = _make_row(study, keys, f"{name} trial_{number}", path, [*fields, *_changes(parameters)])
    return {**row, "search": name, "parameters": parameters}


def _changes(parameters):
    return [f"{field}={value}" for field, value in parameters.items()]


def _recorded_trials(study, keys, base, space):
    """Returns the rows of earlier trials of a search, after checks that this command has the same search."""
    rows = []
    for number, (row, _) in enumerate(_trials(study, base[0]), start=1):
        if row["parameters"].keys() != space.keys():
            raise ConfigError(
                f"the study in --workdir={WORKDIR.value} searches {', '.join(row['parameters'])}, not "
                f"{', '.join(space)}; choose another --workdir"
            )
        rows.append(_make_trial(study, keys, base, number, row["parameters"]))
    return rows


def _trials(study, name):
    """Returns the rows of the search that changes row `name`, and the mean metric of each, None without a result."""
    rows = [row for row in study.rows if row.get("search") == name]
    values = [study.results(row)["values"] for row in rows]
    return [(row, statistics.mean(results) if results else None) for row, results in zip(rows, values, strict=True)]


def _propose_rows(study, bases, keys, space):
    """Adds the next rows of the searches to the study and returns them; none if all have --trials."""
    from convzoo.cli.study_search import propose

    new_rows = []
    for base in bases:
        trials = [(row["parameters"], value) for row, value in _trials(study, base[0])]
        # Simultaneous runs that the seeds of one trial do not fill run several trials.
        count = min(TRIALS.value - len(trials), max(1, JOBS.value // len(keys)))
        proposals = propose(space, trials, count) if count > 0 else []
        for number, parameters in enumerate(proposals, start=len(trials) + 1):
            new_rows.append(_make_trial(study, keys, base, number, parameters))
    study.rows += new_rows
    return new_rows


if __name__ == "__main__":
    program.run(main)
