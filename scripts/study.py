r"""Trains several configs, or several changes of them, with several seeds each, and writes one table.

    python scripts/study.py --workdir=runs/studies/experts --seeds=3 --override=config.epochs=1 \
        --config=configs/x.py:static --config=configs/x.py:8e \
        --set='low: config.optimizer.learning_rate=0.01' --markers=README.md:experts

Every config is a row as it is, and once more with each --set, a name and the fields that it changes. An --override
changes a field in all rows. Each row is trained with the seeds 0, 1, ..., by `train.py` in a process of its own, and
evaluated by `eval.py`: seed 0 of all rows first, so that a study that was stopped compares all rows equally.

WORKDIR/ROW/seed_K is a run's workdir; WORKDIR/study.json holds all figures, seconds, commands and versions; WORKDIR/
table.md the table. Both are written after every run. The same command goes on where it was stopped, tries failed runs
again and makes no finished one again; with more seeds or rows it makes those that are missing. Rows that a command
leaves out leave the table and keep their runs. Exit status 1 if a run failed: the others are made all the same.

--jobs=2 --devices=cpu makes two runs at once, each on half of the CPU's cores: small networks gain little from many
cores, and nothing while they start. Images a second are then those of one of the two.

--checkpoint=best is the one that did best on the config's own eval_split. That is a fair choice if --split is another
one; where both are the same, the chosen figures flatter, and --checkpoint=newest does not.
"""

import argparse
import asyncio
import collections
import contextlib
import datetime
import json
import os
import pathlib
import platform
import re
import shlex
import signal
import statistics
import subprocess
import sys
import time
import urllib.parse

from absl import flags

from convzoo.training import program

# The accelerator is for the programs that this one starts; it only counts multiply-adds itself.
_ENVIRONMENT = dict(os.environ)
os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
os.environ.pop("TF_PLUGGABLE_DEVICE_LIBRARY_PATH", None)

_CORES = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
ROOT = pathlib.Path(__file__).resolve().parent.parent
SECONDS_TO_END = 60.0  # for an interrupted training to finish its steps; then it is killed, which loses no checkpoint
LINES_KEPT = 30  # of what a failed run said last
_CHATTER = r"[IWE]\d{4} [\d:.]+ +\d+ \S+\]|WARNING: All log messages before"  # of TensorFlow's start

WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the study, local or gs://.")
CONFIG = flags.DEFINE_multi_string("config", [], "A row's config, as configs/x.py or FILE:VARIANT; repeat it.")
OVERRIDE = flags.DEFINE_multi_string("override", [], "A changed field of all rows, as config.epochs=1; repeat it.")
SET = flags.DEFINE_multi_string(
    "set", [], "Further rows: 'NAME: config.FIELD=VALUE ...', with every config; repeat it."
)
SEEDS = flags.DEFINE_integer("seeds", 3, "Runs of each row.", lower_bound=1)
JOBS = flags.DEFINE_integer("jobs", 1, "Runs at once, each on its share of the CPU's cores.", lower_bound=1)
CHECKPOINT = flags.DEFINE_enum("checkpoint", "best", ["best", "newest"], "The checkpoint that is evaluated.")
SPLIT = flags.DEFINE_string("split", "test", "What it is evaluated on.")
MARKERS = flags.DEFINE_string(
    "markers", None, "FILE:NAME: also writes the table between <!-- study:NAME --> and <!-- /study:NAME --> of FILE."
)
TABLE_ONLY = flags.DEFINE_bool("table_only", False, "Only write the table of the runs that there are.")
program.define_devices()


def main():
    program.require("workdir")
    from convzoo.training.config import ConfigError
    from convzoo.training.lock import held
    from convzoo.training.study import FAILED, FILE, Study

    _insert(table=None)  # a missing marker is found before hours of training
    study = Study(WORKDIR.value)
    if TABLE_ONLY.value:
        if not study.rows:
            raise ConfigError(f"--workdir={WORKDIR.value} holds no study ({FILE} is missing); leave --table_only out")
        study.write()
    else:
        program.require("config")
        shares = _shares()
        _begin(study)
        # Inherited by the programs that are started: one that outlives a killed study still writes to its workdir.
        with held(WORKDIR.value, "study") as lock:
            try:
                asyncio.run(_run_all(study, shares, lock))
            except asyncio.CancelledError as error:
                raise KeyboardInterrupt from error
            except BaseExceptionGroup as group:
                raise group.exceptions[0] from group
    _insert(study.table())
    failed = [run for row in study.rows for run in study.runs_of(row, FAILED)]
    if not TABLE_ONLY.value and failed:
        print(f"study.py: {len(failed)} runs failed; the same command tries them again", file=sys.stderr)
        sys.exit(1)


def _begin(study):
    """Enters this command's rows into the study, after everything that can be wrong with them was looked at."""
    from convzoo.training.config import ConfigError
    from convzoo.training.rows import rows as compared

    for name, value in (("checkpoint", CHECKPOINT.value), ("split", SPLIT.value)):
        if study.runs and study.about[name] != value:
            raise ConfigError(
                f"the study in --workdir={WORKDIR.value} evaluates --{name}={study.about[name]}, not {value}; "
                "choose another --workdir"
            )
    rows = [_row(study, *row) for row in compared(CONFIG.value, SET.value, OVERRIDE.value)]
    for key in ("name", "folder"):
        twice = [value for value, times in collections.Counter(row[key] for row in rows).items() if times > 1]
        if twice:
            raise ConfigError(f"two rows would be called {twice[0]!r}; rename a config file, its variant or a --set")
    # The file that the table goes to is no part of what was compared.
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--markers")
    _, given = parser.parse_known_args(sys.argv[1:])
    study.rows = rows
    study.about = {
        "checkpoint": CHECKPOINT.value,
        "split": SPLIT.value,
        "command": shlex.join(["python", "scripts/study.py", *given]),
        "machine": {"processor": platform.machine(), "cores": os.cpu_count(), "python": platform.python_version()},
    }


def _shares():
    """The CPU cores of each run that is made at once; None for one that may have them all."""
    from convzoo.training.config import ConfigError

    number = JOBS.value
    if number == 1:
        return [None]
    if flags.FLAGS.devices != "cpu":
        raise ConfigError(f"--jobs={number} shares out the CPU's cores, which are no help elsewhere; add --devices=cpu")
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count()))
    if number > len(cores):
        raise ConfigError(f"--jobs={number} is more than the {len(cores)} cores there are; give fewer")
    return [set(cores[i * len(cores) // number : (i + 1) * len(cores) // number]) for i in range(number)]


def _row(study, name, path, fields):
    from convzoo.models import count
    from convzoo.training import experiment
    from convzoo.training.config import FILE, ConfigError, claim, validate

    for field in fields:
        if field.startswith("config.seed="):
            raise ConfigError(f"{field} has no place in a study; --seeds says how many there are")
    config = program.read_config(path, fields)
    folder = re.sub(r"[^\w.-]+", "_", name)
    validate(config, num_replicas=1)
    if config.task != "classification":
        raise ConfigError(f"{path}: config.task is {config.task!r}; a study compares top-1, which that has not")
    source = experiment.open_source(config)
    source.num_examples(SPLIT.value)
    for seed in range(SEEDS.value):
        workdir = os.path.join(WORKDIR.value, folder, f"seed_{seed}")
        if _exists(os.path.join(workdir, FILE)):
            config_of_run = config.copy_and_resolve_references()
            config_of_run.seed = seed
            claim(config_of_run, workdir)
    row = {
        "name": name,
        "folder": folder,
        "flags": shlex.join([f"--config={path}", *(f"--{field}" for field in fields)]),
        "config": json.loads(json.dumps(config.to_dict())),
    }
    for known in study.rows:
        if known["config"] == row["config"]:  # building a large network takes a while
            return {**row, "params": known["params"], "madds": known["madds"]}
    counted = count(experiment.build_model(config, source.num_classes))
    return {**row, "params": counted.params, "madds": counted.madds}


def _exists(path):
    import tensorflow as tf

    return tf.io.gfile.exists(path)


def _insert(table):
    """Writes the table between the markers; with None, only looks whether they are there."""
    if MARKERS.value is None:
        return
    from convzoo.training import markdown
    from convzoo.training.config import ConfigError

    path, _, name = MARKERS.value.rpartition(":")
    if not (path and name):
        raise ConfigError(f"cannot read --markers={MARKERS.value}; write FILE:NAME")
    if table is None:
        markdown.check_markers(path, f"study:{name}")
    else:
        markdown.write_between(path, f"study:{name}", table)


async def _run_all(study, shares, lock):
    from convzoo.training.study import FINISHED

    main_task, workers = asyncio.current_task(), []

    def stop():
        if main_task.cancelling():  # not the first time: wait no longer for the runs to end whole
            for worker in workers:
                worker.cancel()
        main_task.cancel()

    # Both set, because a program in the background may have inherited that SIGINT is ignored, and so would ours.
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop)
    order = [(row, seed) for seed in range(SEEDS.value) for row in study.rows]
    finished = {row["name"]: [run["seed"] for run in study.runs_of(row, FINISHED)] for row in study.rows}
    open_runs = [(row, seed) for row, seed in order if seed not in finished[row["name"]]]
    print(
        f"{len(study.rows)} rows, {SEEDS.value} seeds: {len(order)} runs, {len(open_runs)} of them to make", flush=True
    )
    study.write()
    waiting = collections.deque(enumerate(open_runs, start=1))

    async def work(cores):
        while waiting:
            number, (row, seed) = waiting.popleft()
            label = f"[{number}/{len(open_runs)}] {row['name']}, seed {seed}"
            print(f"{label}: begins", flush=True)
            run = study.run(row, seed)
            try:
                await _make(row, seed, run, cores, lock, prefix="    " if len(shares) == 1 else f"    [{number}] ")
            except asyncio.CancelledError:
                print(f"{label}: interrupted; the same command goes on", flush=True)
                raise
            finally:
                study.write()
            print(f"{label}: {_told(run)}; {_left(study, [run for _, run in waiting])}", flush=True)
            _insert(study.table())

    async with asyncio.TaskGroup() as group:
        workers += [group.create_task(work(cores)) for cores in shares]


async def _make(row, seed, run, cores, lock, prefix):
    """Trains and evaluates, and enters into `run` what came of it."""
    from convzoo.training.files import read_text
    from convzoo.training.study import FAILED, FINISHED, INTERRUPTED, training_rate

    workdir = os.path.join(WORKDIR.value, row["folder"], f"seed_{seed}")
    record = os.path.join(workdir, "evaluations", f"{CHECKPOINT.value}_{urllib.parse.quote(SPLIT.value, safe='')}.json")
    where = [f"--{name}={flags.FLAGS[name].value}" for name in ("tpu", "tpu_zone", "gcp_project", "devices")
             if flags.FLAGS[name].value]  # fmt: skip
    train = ["train.py", *shlex.split(row["flags"]), f"--config.seed={seed}", f"--workdir={workdir}", *where]
    evaluate = [
        "eval.py", f"--workdir={workdir}", f"--checkpoint={CHECKPOINT.value}", f"--split={SPLIT.value}",
        f"--output={record}", *where,
    ]  # fmt: skip
    run.pop("output", None)
    run.update(status=INTERRUPTED, commands=[shlex.join(["python", *command]) for command in (train, evaluate)])
    begin = time.perf_counter()
    try:
        status, output = await _call(train, cores, lock, prefix)
    finally:
        run["seconds"].append(round(time.perf_counter() - begin, 1))
    if not status:
        status, output = await _call(evaluate, cores, lock, prefix)
    if status:
        if status < 0:
            output.append(f"ended by signal {-status}")
        run.update(status=FAILED, output=output or [f"exit status {status}"])
        return
    versions = json.loads(read_text(os.path.join(workdir, "config.json")))
    figures = json.loads(read_text(record))
    run.update({name: figures[name] for name in ("top1", "top5", "loss", "step", "weights", "examples")})
    run["images_per_second"] = training_rate(workdir)
    run.update(status=FINISHED, versions={name: versions[name] for name in ("convzoo", "keras", "tensorflow")})


async def _call(command, cores, lock, prefix):
    """Runs a program of ours on `cores` and shows what it says; returns its exit status and its last lines.

    An interruption is passed on to it as SIGINT, which it answers by ending whole.
    """
    with _on(cores):
        child = await asyncio.create_subprocess_exec(
            sys.executable,
            str(ROOT / command[0]),
            *command[1:],
            env=_ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            limit=2**20,  # bytes of a line
            start_new_session=True,  # so that Ctrl-C reaches it through us alone, once
            pass_fds=[lock.fileno()] if lock else [],
        )
    output = collections.deque(maxlen=LINES_KEPT)
    try:
        await _show(child, output, prefix)
        return await child.wait(), list(output)
    except asyncio.CancelledError:
        child.send_signal(signal.SIGINT)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SECONDS_TO_END):
                await _show(child, output, prefix)
                await child.wait()
        raise
    finally:
        if child.returncode is None:  # it did not end, or we were interrupted once more
            child.kill()
            await child.wait()


@contextlib.contextmanager
def _on(cores):
    """Programs that are started meanwhile compute on these cores."""
    if cores is None or not hasattr(os, "sched_setaffinity"):
        yield
        return
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        # Not what was found: another run may be starting at the same time.
        os.sched_setaffinity(0, _CORES)


async def _show(child, output, prefix):
    async for line in child.stdout:
        line = line.decode(errors="replace").rstrip()
        if line.strip() and not re.match(_CHATTER, line):
            output.append(line)
            print(f"{prefix}{line}", flush=True)


def _told(run):
    from convzoo.training.study import FINISHED

    minutes = f"{sum(run['seconds']) / 60:.1f} minutes of training"
    if run["status"] == FINISHED:
        return f"top-1 {run['top1']:.2%} on {SPLIT.value}, {minutes}"
    return f"failed: {run['output'][-1]}"


def _left(study, open_runs):
    """How many runs are left, and about how long they take: as long as those of their row did, or else of any row."""
    from convzoo.training.study import FINISHED

    seconds = {row["name"]: [sum(run["seconds"]) for run in study.runs_of(row, FINISHED)] for row in study.rows}
    every = [value for values in seconds.values() for value in values]
    if not open_runs or not every:
        return f"{len(open_runs)} left"
    estimate = sum(statistics.mean(seconds[row["name"]] or every) for row, _ in open_runs) / JOBS.value
    return f"{len(open_runs)} left, about {datetime.timedelta(seconds=round(estimate))}"


if __name__ == "__main__":
    program.run(main)
