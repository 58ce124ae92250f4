"""Trains and evaluates the runs of a study, each in its own processes of train.py and eval.py."""

import asyncio
import collections
import contextlib
import datetime
import json
import os
import pathlib
import shlex
import signal
import statistics
import subprocess
import sys
import time
import urllib.parse
from collections.abc import Callable, Mapping, Sequence
from typing import TextIO

from convzoo.cli.startup import LOG_MESSAGE
from convzoo.cli.study import FAILED, FINISHED, INTERRUPTED, RunKey, Study, training_rate
from convzoo.cli.study_rows import fold_splits
from convzoo.errors import ConfigError
from convzoo.files import read_text
from convzoo.training.evaluation import EVALUATIONS_FOLDER
from convzoo.training.workdir import CONFIG_FILE

_ROOT = pathlib.Path(__file__).resolve().parent.parent
_SECONDS_TO_STOP = 60.0  # for an interrupted training to save a checkpoint, before it is killed
_OUTPUT_LINES = 30  # recorded for a failed run


class StudyRunner:
    """Makes the runs of a study that are not finished.

    SIGINT or SIGTERM interrupts the training processes, which save a checkpoint and can be resumed. A second signal
    kills them.

    Args:
        study: The study. Its record is written after every run.
        device_flags: Flags of `program.define_devices` for the started programs.
        environment: Environment variables of the started programs.
        core_sets: From `divide_cores`; there are as many runs at the same time as core sets.
        lock: Locked file of the study's workdir. The started programs inherit it, so that a program that outlives a
            killed study keeps the lock.
        on_run_end: Called after every finished or failed run.
    """

    def __init__(
        self,
        study: Study,
        *,
        device_flags: Sequence[str],
        environment: Mapping[str, str],
        core_sets: Sequence[set[int] | None],
        lock: TextIO | None,
        on_run_end: Callable[[], None],
    ):
        self._study, self._device_flags, self._environment = study, device_flags, environment
        self._core_sets, self._lock, self._on_run_end = core_sets, lock, on_run_end
        self._all_cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
        self._workers = []

    def run(self, keys: Sequence[RunKey], rows: Sequence[dict] | None = None) -> None:
        """Makes the missing runs of some rows of the study, by default of all, those of the first key first.

        Raises:
            KeyboardInterrupt: A signal stopped the study.
        """
        try:
            asyncio.run(self._run_missing(keys, self._study.rows if rows is None else rows))
        except asyncio.CancelledError as error:
            raise KeyboardInterrupt from error
        except BaseExceptionGroup as group:
            raise group.exceptions[0] from group

    async def _run_missing(self, keys, rows):
        study = self._study
        missing = [
            (row, key)
            for key in keys
            for row in rows
            if study.runs.get(f"{row['folder']}/{key.name}", {}).get("status") != FINISHED
        ]
        total = len(rows) * len(keys)
        print(f"{len(rows)} rows, {len(keys)} runs each: {total} runs, {len(missing)} to make", flush=True)
        study.write()
        queue = collections.deque(enumerate(missing, start=1))
        self._handle_signals(asyncio.current_task())
        async with asyncio.TaskGroup() as group:
            self._workers += [group.create_task(self._work(queue, len(missing), cores)) for cores in self._core_sets]

    def _handle_signals(self, main_task):
        def stop():
            if main_task.cancelling():  # second signal: do not wait for the training processes
                for worker in self._workers:
                    worker.cancel()
            main_task.cancel()

        # A program in the background can have inherited that SIGINT is ignored, so both are set.
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop)

    async def _work(self, queue, total, cores):
        """Makes runs from the queue, one after the other, on these cores."""
        study = self._study
        while queue:
            number, (row, key) = queue.popleft()
            label, run = f"[{number}/{total}] {row['name']}, {key.label}", study.run(row, key)
            prefix = "    " if len(self._core_sets) == 1 else f"    [{number}] "
            print(f"{label}: started", flush=True)
            try:
                await self._make(row, key, run, cores, prefix)
            except asyncio.CancelledError:
                print(f"{label}: interrupted; the same command resumes it", flush=True)
                raise
            finally:
                study.write()
            print(f"{label}: {self._outcome(run)}; {self._remaining([row for _, (row, _) in queue])}", flush=True)
            self._on_run_end()

    async def _make(self, row, key, run, cores, prefix):
        """Trains and evaluates one run and updates its record."""
        about = self._study.about
        checkpoint, split, fold_flags = about["checkpoint"], about["split"], []
        if key.fold is not None:
            fields, split = fold_splits(row["config"]["data"]["train_split"], key.fold, about["folds"])
            fold_flags = [f"--{field}" for field in fields]
        workdir = os.path.join(self._study.workdir, row["folder"], key.name)
        evaluation = os.path.join(
            workdir, EVALUATIONS_FOLDER, f"{checkpoint}_{urllib.parse.quote(split, safe='')}.json"
        )
        train = [
            "train.py",
            *shlex.split(row["flags"]),
            f"--config.seed={key.seed}",
            *fold_flags,
            f"--workdir={workdir}",
        ]
        evaluate = [
            "eval.py", f"--workdir={workdir}", f"--checkpoint={checkpoint}", f"--split={split}",
            f"--output={evaluation}",
        ]  # fmt: skip
        commands = [[*command, *self._device_flags] for command in (train, evaluate)]
        run.pop("output", None)
        run.update(status=INTERRUPTED, commands=[shlex.join(["python", *command]) for command in commands])
        start = time.perf_counter()
        try:
            status, output = await self._call(commands[0], cores, prefix)
        finally:
            run["seconds"].append(round(time.perf_counter() - start, 1))
        if status == 0:
            status, output = await self._call(commands[1], cores, prefix)
        if status:
            if status < 0:
                output.append(f"killed by signal {-status}")
            run.update(status=FAILED, output=output or [f"exit status {status}"])
            return
        versions = json.loads(read_text(os.path.join(workdir, CONFIG_FILE)))
        metrics = json.loads(read_text(evaluation))
        run.update({name: value for name, value in metrics.items() if isinstance(value, float)})
        run.update({name: metrics[name] for name in ("step", "weights", "examples")})
        run["images_per_second"] = training_rate(workdir)
        run.update(status=FINISHED, versions={name: versions[name] for name in ("convzoo", "keras", "tensorflow")})

    async def _call(self, command, cores, prefix):
        """Runs a program on these cores and prints its output. Returns its exit status and last lines of output."""
        with self._restricted_to(cores):
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                str(_ROOT / command[0]),
                *command[1:],
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                limit=2**20,  # bytes of a line
                start_new_session=True,  # Ctrl-C in a terminal reaches only this process, which forwards it
                pass_fds=[self._lock.fileno()] if self._lock else [],
            )
        lines = collections.deque(maxlen=_OUTPUT_LINES)
        try:
            await _print_output(process, lines, prefix)
            return await process.wait(), list(lines)
        except asyncio.CancelledError:
            process.send_signal(signal.SIGINT)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_SECONDS_TO_STOP):
                    await _print_output(process, lines, prefix)
                    await process.wait()
            raise
        finally:
            if process.returncode is None:  # it did not stop in time, or there was a second signal
                process.kill()
                await process.wait()

    @contextlib.contextmanager
    def _restricted_to(self, cores):
        """Restricts processes that the block starts to these cores."""
        if cores is None or self._all_cores is None:
            yield
            return
        os.sched_setaffinity(0, cores)
        try:
            yield
        finally:
            # Not the cores on entry: another worker may be starting a process at the same time.
            os.sched_setaffinity(0, self._all_cores)

    def _outcome(self, run):
        if run["status"] == FINISHED:
            minutes = sum(run["seconds"]) / 60
            row = next(row for row in self._study.rows if row["name"] == run["row"])
            metric = row["metric"]
            split = "its fold" if run.get("fold") is not None else self._study.about["split"]
            result = f"{metric['title']} {run[metric['name']]:.2%} on {split}"
            return f"{result}, {minutes:.1f} minutes of training"
        return f"failed: {run['output'][-1]}"

    def _remaining(self, rows):
        """Returns the number of runs left and their estimated time: the mean of their row, else that of all rows."""
        study = self._study
        seconds = {row["name"]: [sum(run["seconds"]) for run in study.runs_with(FINISHED, row)] for row in study.rows}
        all_seconds = [value for values in seconds.values() for value in values]
        if not rows or not all_seconds:
            return f"{len(rows)} left"
        estimate = sum(statistics.mean(seconds[row["name"]] or all_seconds) for row in rows) / len(self._core_sets)
        return f"{len(rows)} left, about {datetime.timedelta(seconds=round(estimate))}"


def divide_cores(jobs: int, devices: str) -> list[set[int] | None]:
    """Returns the CPU cores of each of `jobs` simultaneous runs; [None], which means all, for a single job.

    Args:
        jobs: Number of simultaneous runs.
        devices: Value of --devices.

    Raises:
        ConfigError: Several jobs do not run on "cpu", or are more than the cores.

    Example:
        >>> divide_cores(1, "")
        [None]
    """
    if jobs == 1:
        return [None]
    if devices != "cpu":
        raise ConfigError(f"--jobs={jobs} divides the cores of the CPU, so it requires --devices=cpu")
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count()))
    if jobs > len(cores):
        raise ConfigError(f"--jobs={jobs} is more than the {len(cores)} CPU cores; use fewer jobs")
    return [set(cores[i * len(cores) // jobs : (i + 1) * len(cores) // jobs]) for i in range(jobs)]


async def _print_output(process, lines, prefix):
    """Prints the output of a process until it ends, without TensorFlow's log, and appends it to `lines`."""
    async for line in process.stdout:
        line = line.decode(errors="replace").rstrip()
        if line.strip() and not LOG_MESSAGE.match(line):
            lines.append(line)
            print(f"{prefix}{line}", flush=True)
