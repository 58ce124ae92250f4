"""Evaluation of a run from its checkpoints alone: the workdir says what was trained, on what, and how to look at it."""

import datetime
import json
import os
import urllib.parse
from collections.abc import Collection, Iterator

import keras
import ml_collections
import tensorflow as tf

import convzoo
from convzoo import models
from convzoo.models.weights import SUFFIX
from convzoo.training import checkpoints, classes, experiment, tasks
from convzoo.training.config import ConfigError, first_line
from convzoo.training.devices import Devices
from convzoo.training.evaluation import Evaluator
from convzoo.training.files import write_text

FOLDER = "evaluations"


def find_checkpoint(workdir: str, which: str) -> str:
    """Path of the checkpoint that `which` names: "newest" or "best" of `workdir`, or a path, that of a file of weights
    too.

    Raises:
        ConfigError: There is no such checkpoint.
    """
    if which == "newest":
        path = checkpoints.newest(workdir)
    elif which == "best":
        path = checkpoints.best(workdir)
    elif which.endswith(SUFFIX):
        path = which
    else:
        path = which.removesuffix(".index")
        if not tf.io.gfile.exists(f"{path}.index"):
            raise ConfigError(f"checkpoint {which!r} is not there; give newest, best or the path of a checkpoint")
    if path is None:
        raise ConfigError(f"{workdir!r} has no {which} checkpoint; train it first")
    return path


def restore_weights(
    path: str, model: keras.Model, kind: str = "auto", leave: Collection[str] = ()
) -> tuple[str, int | None]:
    """Reads the network's weights from the checkpoint, or the `.weights.h5` file, at `path`.

    Args:
        path: The checkpoint or file.
        model: The network, as the experiment builds it.
        kind: "ema" for the moving average, "raw" for the weights in training, "auto" for the average where it is kept.
        leave: Paths of weights to leave as they are.

    Returns:
        The kind that was read, "ema" or "raw", and the training step of the checkpoint; "file" and None for a file.

    Raises:
        ConfigError: The checkpoint cannot be read, is of another network, or keeps no average.
    """
    if path.endswith(SUFFIX):
        if kind != "auto":
            raise ConfigError(f"{path!r} has one kind of weights; leave out --weights={kind}")
        num_classes = models.read_record(path).get("num_classes")
        if num_classes not in (None, model.output_shape[-1]):
            raise ConfigError(
                f"weights {path!r} are for {num_classes} classes and the data has {model.output_shape[-1]}; take other "
                "data"
            )
        models.load_weights(model, path)
        return "file", None
    has_average = any(name.startswith("ema/") for name in checkpoints.shapes(path))
    if kind == "auto":
        kind = "ema" if has_average else "raw"
    if kind == "ema" and not has_average:
        raise ConfigError(f"checkpoint {path!r} keeps no moving average; use --weights=raw")
    weights = {weight.path: weight.value for weight in model.weights if weight.path not in leave}
    step = tf.Variable(0, dtype=tf.int32, trainable=False)
    checkpoints.restore(
        path,
        {**checkpoints.prefixed("ema" if kind == "ema" else "model", weights), "optimizer/iteration": step},
    )
    return kind, int(step.numpy())


class Assessor:
    """Evaluates checkpoints of one run.

    Args:
        config: The run's experiment, as `training.config.load` reads it.
        workdir: The run's folder; None for a file of weights.
        devices: The connected devices.
        split: The split to evaluate on; None for the experiment's evaluation split.
        weights: "auto", "ema" or "raw"; see `restore_weights`.
        batch_size: Examples over all replicas; None for the experiment's evaluation batch.

    Raises:
        ConfigError, data.DataError: The batch does not divide by the replicas, there is no such split, or the data's
            classes are not those that the run was trained on.
    """

    def __init__(
        self,
        config: ml_collections.ConfigDict,
        workdir: str | None,
        devices: Devices,
        split: str | None = None,
        weights: str = "auto",
        batch_size: int | None = None,
    ):
        self._config, self._workdir, self._kind = config, workdir, weights
        self._split = split or config.data.eval_split
        self._batch_size = batch_size or config.eval_batch_size or config.batch_size
        if self._batch_size % devices.num_replicas:
            raise ConfigError(
                f"batch_size {self._batch_size} does not divide by {devices.num_replicas} replicas; change one"
            )
        self._source = experiment.open_source(config)
        if workdir:
            classes.check(workdir, self._source.class_names)
        self._source.num_examples(self._split)
        self._inputs = experiment.eval_settings(config)
        self.task = tasks.of(config)
        with devices.strategy.scope():
            self._model = experiment.build_model(config, self._source.num_classes)
        self._evaluator = Evaluator(self._model, devices.strategy, self.task, devices.makes_batches)

    def assess(self, path: str) -> dict:
        """Evaluates the checkpoint at `path`.

        Returns a record: the task's figures, shares of 1 and "loss", "examples", and what was evaluated.
        """
        kind, step = restore_weights(path, self._model, self._kind)
        figures = self._evaluator.evaluate(self._source, self._split, batch_size=self._batch_size, **self._inputs)
        return {
            "step": step,
            "weights": kind,
            "split": self._split,
            **figures,
            "model": self._config.model.name,
            "source": self._config.data.source,
            "image_size": self._inputs["image_size"][0],
            "checkpoint": path,
            "convzoo": convzoo.__version__,
            "tensorflow": tf.__version__,
            "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        }

    def write(self, record: dict, path: str | None = None) -> str:
        """Writes a record as JSON to `path`, by default into the workdir's folder of evaluations, or beside the file of
        weights; returns the path. Raises ConfigError where that cannot be."""
        if path is None:
            split = urllib.parse.quote(record["split"], safe="")
            if record["step"] is None:
                source = urllib.parse.quote(record["source"], safe="")
                path = f"{record['checkpoint'].removesuffix(SUFFIX)}_{source}_{split}.json"
            else:
                name = f"step_{record['step']:08d}_{record['weights']}_{split}.json"
                path = os.path.join(self._workdir, FOLDER, name)
        try:
            write_text(path, json.dumps(record, indent=2) + "\n")
        except (tf.errors.OpError, OSError) as error:
            raise ConfigError(f"cannot write {path!r} ({first_line(error)}); choose another --output") from error
        return path

    def follow(self, timeout: float | None = None) -> Iterator[dict]:
        """Records of a run's checkpoints as they appear, until its last step.

        The best on the experiment's own evaluation split goes to best/.

        Args:
            timeout: Seconds to wait for a new checkpoint before giving up; None waits for ever.

        Raises:
            ConfigError: No new checkpoint came in time.
        """
        steps_per_epoch = self._source.num_examples(self._config.data.train_split) / self._config.batch_size
        total_steps = experiment.total_steps(self._config, steps_per_epoch)
        folder = os.path.join(self._workdir, checkpoints.FOLDER)
        for path in tf.train.checkpoints_iterator(folder, timeout=timeout):
            record = self.assess(path)
            if self._split == self._config.data.eval_split:
                # On another split, the test pictures say, the best must not be chosen.
                best = self.task.best
                checkpoints.copy_if_best(self._workdir, path, record["step"], best, record[best])
            yield record
            if record["step"] >= total_steps:
                return
        raise ConfigError(f"no new checkpoint in {folder} for {timeout:g} seconds; is the training still running?")
