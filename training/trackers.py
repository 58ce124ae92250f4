"""Trackers, which receive the metrics of a run: TensorBoard, Weights & Biases and MLflow."""

import contextlib
import importlib.util
import io
import json
import os
import queue
import re
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence

import PIL.Image
import tensorflow as tf

from convzoo.errors import ConfigError, UnavailableError, first_line
from convzoo.files import read_text, write_text
from convzoo.training import checkpoints
from convzoo.training.metrics import raises_write_error
from convzoo.training.workdir import flatten

TRACKERS_FILE = "trackers.json"
_PROJECT = "convzoo"  # name of W&B's project and of MLflow's experiment unless their environment variables name one
_CLOSE_SECONDS = 120.0  # for a tracker to send the rest at the end of a run
_PAUSE_SECONDS = 60.0  # after an error, before the tracker is tried again
_MLFLOW_PARAM_CHARACTERS = 6000
_MLFLOW_PARAMS = 100  # of a request
_MLFLOW_STATUS = {"finished": "FINISHED", "failed": "FAILED", "stopped": "KILLED"}


class Tracker:
    """Receives what a run logs. Trackers subclass it and override what they support."""

    def log_config(self, config: Mapping) -> None:
        """Records the config: nested dicts of JSON values. A resumed run calls it again."""

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Records the metrics of `step`, such as "eval/top1"."""

    def log_images(self, step: int, images: Mapping[str, bytes]) -> None:
        """Records PNG files by name."""

    def close(self, status: str, summary: Mapping[str, float]) -> None:
        """Ends the record of this process.

        Args:
            status: "finished", "stopped" by a signal, or "failed".
            summary: Best value of the metric that selects the best checkpoint, and its step; {} without evaluation.
        """


class TensorBoard(Tracker):
    """Writes event files to WORKDIR/tensorboard. Raises WriteError where they cannot be written."""

    @raises_write_error
    def __init__(self, workdir: str):
        self._writer = tf.summary.create_file_writer(os.path.join(workdir, "tensorboard"))

    @raises_write_error
    def log_config(self, config):
        self._write(0, lambda: tf.summary.text("config", f"```json\n{json.dumps(config, indent=2)}\n```", 0))

    @raises_write_error
    def log(self, step, metrics):
        self._write(step, lambda: [tf.summary.scalar(name, value, step) for name, value in metrics.items()])

    @raises_write_error
    def log_images(self, step, images):
        def write():
            for name, png in images.items():
                tf.summary.image(name, tf.image.decode_png(png, channels=3)[tf.newaxis], step)

        self._write(step, write)

    def _write(self, step, write):
        with self._writer.as_default(step):
            write()
        self._writer.flush()


class WandB(Tracker):
    """Logs to Weights & Biases. WANDB_PROJECT, WANDB_MODE and its other environment variables apply.

    Args:
        workdir: Folder of the run; its name is the name of the W&B run.
        run_id: Id of the W&B run that continues; None for a new one.

    Attributes:
        run_id: Id of the W&B run.
    """

    def __init__(self, workdir: str, run_id: str | None = None):
        import wandb

        self._image = wandb.Image
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", _PROJECT),
            name=os.environ.get("WANDB_NAME", _run_name(workdir)),
            dir=os.environ.get("WANDB_DIR", workdir if "://" not in workdir else None),
            id=run_id or os.environ.get("WANDB_RUN_ID") or uuid.uuid4().hex[:8],
            resume="allow",
        )
        self.run_id = self._run.id
        # W&B has the steps of an interrupted process, which may be made again, and accepts no earlier steps.
        self._first_step = self._run.step

    def log_config(self, config):
        self._run.config.update(dict(config), allow_val_change=True)

    def log(self, step, metrics):
        if step >= self._first_step:
            self._run.log(dict(metrics), step=step)

    def log_images(self, step, images):
        self.log(step, {name: self._image(_open(png)) for name, png in images.items()})

    def close(self, status, summary):
        self._run.summary.update(dict(summary))
        self._run.finish(exit_code=int(status != "finished"))


class MLflow(Tracker):
    """Logs to MLflow. MLFLOW_TRACKING_URI, MLFLOW_EXPERIMENT_NAME and its other environment variables apply.

    MLFLOW_RUN_ID does not.

    Args, attributes: As of `WandB`.
    """

    def __init__(self, workdir: str, run_id: str | None = None):
        import mlflow

        self._client, self._entities = mlflow.MlflowClient(), mlflow.entities
        self._is_new = run_id is None
        if self._is_new:
            experiment = os.environ.get("MLFLOW_EXPERIMENT_ID")
            if experiment is None:
                name = os.environ.get("MLFLOW_EXPERIMENT_NAME", _PROJECT)
                experiment = mlflow.set_experiment(name).experiment_id
            run_id = self._client.create_run(experiment, run_name=_run_name(workdir)).info.run_id
        else:
            self._client.update_run(run_id, status="RUNNING")
        self.run_id = run_id

    def log_config(self, config):
        if not self._is_new:  # MLflow does not let parameters change
            return
        params = [
            self._entities.Param(name, str(value)[:_MLFLOW_PARAM_CHARACTERS]) for name, value in flatten(config).items()
        ]
        for start in range(0, len(params), _MLFLOW_PARAMS):
            self._client.log_batch(self.run_id, params=params[start : start + _MLFLOW_PARAMS])

    def log(self, step, metrics):
        now = int(time.time() * 1000)
        entries = [
            self._entities.Metric(_mlflow_name(name), float(value), now, step) for name, value in metrics.items()
        ]
        self._client.log_batch(self.run_id, metrics=entries)

    def log_images(self, step, images):
        for name, png in images.items():
            self._client.log_image(self.run_id, _open(png), key=_mlflow_name(name), step=step)

    def close(self, status, summary):
        try:
            if summary:
                self.log(int(summary["best/step"]), summary)
        finally:
            self._client.set_terminated(self.run_id, _MLFLOW_STATUS[status])


_REMOTE = {"wandb": WandB, "mlflow": MLflow}


def check_installed(names: Sequence[str]) -> None:
    """Raises ConfigError if the package of a tracker in `config.trackers` is not installed.

    Example:
        >>> check_installed(("tensorboard",))
    """
    for name in names:
        if name in _REMOTE:
            spec = importlib.util.find_spec(name)
            if spec is None or spec.origin is None:  # a folder of that name, such as W&B creates
                raise ConfigError(
                    f"config.trackers={tuple(names)} needs {name}, which is not installed; install it with: "
                    f"pip install 'convzoo[{name}]'"
                )


class Trackers:
    """The trackers of a run. An error of a remote one is reported once and does not end the training.

    Each remote tracker has a thread, so that a slow server does not hold up the training. After an error, what would
    be logged within the next minute is lost; then the tracker is tried again. Errors of TensorBoard are raised: it
    writes files of the workdir.

    Args:
        message: Shows a line of text.
    """

    def __init__(self, message: Callable[[str], None]):
        self._message, self._all = message, []

    def add(self, name: str, tracker: Tracker) -> None:
        """Adds a tracker."""
        is_remote = not isinstance(tracker, TensorBoard)
        self._all.append(_InBackground(name, tracker, self._message) if is_remote else tracker)

    def log_config(self, config: Mapping) -> None:
        """As `Tracker.log_config`."""
        for tracker in self._all:
            tracker.log_config(config)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """As `Tracker.log`."""
        if not metrics:
            return
        for tracker in self._all:
            tracker.log(step, metrics)

    def log_images(self, step: int, images: Mapping[str, bytes]) -> None:
        """As `Tracker.log_images`."""
        if not images:
            return
        for tracker in self._all:
            tracker.log_images(step, images)

    def close(self, status: str, summary: Mapping[str, float]) -> None:
        """As `Tracker.close`."""
        for tracker in self._all:
            tracker.close(status, summary)


class _InBackground(Tracker):
    """Calls a tracker in a thread, in order. Its errors become one message."""

    def __init__(self, name, tracker, message):
        self._name, self._tracker, self._message = name, tracker, message
        self._lost, self._paused_until = 0, 0.0
        self._calls = queue.SimpleQueue()
        # A daemon, because a server that does not answer must not keep a finished training from ending.
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def log_config(self, config):
        self._calls.put((self._tracker.log_config, config))

    def log(self, step, metrics):
        self._calls.put((self._tracker.log, step, dict(metrics)))

    def log_images(self, step, images):
        self._calls.put((self._tracker.log_images, step, dict(images)))

    def close(self, status, summary):
        self._calls.put((self._tracker.close, status, dict(summary)))
        self._calls.put(None)
        self._thread.join(_CLOSE_SECONDS)
        if self._thread.is_alive():
            self._message(f"{self._name} did not end within {_CLOSE_SECONDS:g} s; metrics.jsonl has all metrics")
        elif self._lost:
            self._message(f"{self._name} did not receive {self._lost} of the entries; metrics.jsonl has all metrics")

    def _run(self):
        while (call := self._calls.get()) is not None:
            if call[0] == self._tracker.close:
                self._paused_until = 0.0
            self._call(*call)

    def _call(self, method, *args):
        if time.monotonic() < self._paused_until:
            self._lost += 1
            return
        try:
            method(*args)
        except Exception as error:
            self._lost += 1
            self._paused_until = time.monotonic() + _PAUSE_SECONDS
            if self._lost == 1:
                self._message(f"warning: {self._name} failed ({first_line(error)}); the training continues")


@contextlib.contextmanager
def start_trackers(
    names: Sequence[str], workdir: str, config: Mapping, message: Callable[[str], None]
) -> Iterator[Trackers]:
    """Starts the trackers of a run and closes them at the end of the block. The ids of runs are in trackers.json.

    Args:
        names: `config.trackers`; () for processes that do not write.
        workdir: Folder of the run, local or gs://.
        config: The config, which is logged.
        message: Shows a line of text.

    Raises:
        ConfigError: trackers.json is damaged.
        UnavailableError: A remote tracker does not start, except in a resumed run, which gets along without it.
        WriteError: A file cannot be written.
    """
    trackers, status = Trackers(message), "failed"
    try:
        for name in names:
            if name not in _REMOTE:
                trackers.add(name, TensorBoard(workdir))
                continue
            try:
                trackers.add(name, _start(name, workdir))
            except UnavailableError as error:
                if name not in _read_ids(os.path.join(workdir, TRACKERS_FILE)):
                    raise
                message(f"warning: {error}; the training resumes without it")
        trackers.log_config(config)
        yield trackers
        status = "finished"
    except KeyboardInterrupt:
        status = "stopped"
        raise
    finally:
        trackers.close(status, _summary(workdir))


def _start(name, workdir):
    """Starts the remote tracker `name`, with the run id of an earlier process if there is one."""
    path = os.path.join(workdir, TRACKERS_FILE)
    ids = _read_ids(path)
    try:
        tracker = _REMOTE[name](workdir, ids.get(name))
    except Exception as error:
        resumed = f" with the run {ids[name]} of {path}" if name in ids else ""
        raise UnavailableError(
            f"config.trackers: {name} does not start{resumed} ({first_line(error)}); correct its settings or remove it "
            "from config.trackers"
        ) from error
    if tracker.run_id != ids.get(name):
        raises_write_error(write_text)(path, json.dumps({**ids, name: tracker.run_id}) + "\n")
    return tracker


def _read_ids(path):
    if not tf.io.gfile.exists(path):
        return {}
    try:
        ids = json.loads(read_text(path))
        if not isinstance(ids, dict) or not all(isinstance(value, str) for value in ids.values()):
            raise TypeError("it is no object of ids")
    except (ValueError, TypeError, RecursionError, OSError, tf.errors.OpError) as error:
        raise ConfigError(
            f"{path} is damaged ({first_line(error)}); restore it, or remove it to start new runs of the trackers"
        ) from error
    return ids


def _summary(workdir):
    try:
        info = checkpoints.read_best_info(workdir)
    except ConfigError:  # damaged, which the training reports where it matters
        info = None
    return {f"best/{info['metric']}": info["value"], "best/step": info["step"]} if info else {}


def _run_name(workdir):
    return os.path.basename(os.path.abspath(workdir)) if "://" not in workdir else workdir.rstrip("/").split("/")[-1]


def _mlflow_name(name):
    return re.sub(r"[^\w./ -]", "_", name)


def _open(png):
    return PIL.Image.open(io.BytesIO(png))
