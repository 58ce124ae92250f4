"""Metrics of a network over every example of a split, each counted exactly once."""

import datetime
import hashlib
import json
import os
import time
import urllib.parse
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import ml_collections
import numpy as np
import tensorflow as tf
from absl import logging

import convzoo
from convzoo import data
from convzoo.errors import ConfigError, TrainingError, first_line
from convzoo.files import check_output, write_output
from convzoo.models.weights import SUFFIX, first_not_finite
from convzoo.tasks import Task, get_eval_task, get_task
from convzoo.training import checkpoints, experiment
from convzoo.training.devices import Devices
from convzoo.training.memory import check_memory
from convzoo.training.workdir import changed_fields, load_classes, verify_classes

EVALUATIONS_FOLDER = "evaluations"
_LONGEST_CHANGES = 100  # characters of overrides in the name of a file
_POLL_SECONDS = 1.0  # between two looks for a new checkpoint


class Evaluator:
    """Evaluates a network on a split. Training uses it with a copy of its network.

    Args:
        model: The network, built in the strategy's scope.
        strategy: The distribution strategy.
        task: Computes the metrics.
        count_corrupt: Returns whether the input pipeline of an InputContext runs in this process, where corrupt images
            can be counted; see `Devices.has_local_input`.

    Attributes:
        predictions: `Task.eval_predictions` of the last evaluated split, by name, and if there are any "index", the
            index of each example in the split, int64 [examples]. With several workers it has no meaning.
    """

    def __init__(
        self,
        model: keras.Model,
        strategy: tf.distribute.Strategy,
        task: Task,
        count_corrupt: Callable[[tf.distribute.InputContext], bool] = lambda context: True,
    ):
        self._model, self._strategy, self._task, self._count_corrupt = model, strategy, task, count_corrupt
        self._compiled = tf.function(self._run)
        self.predictions: dict[str, np.ndarray] = {}
        task.prepare_evaluation()

    def set_weights(self, weights: dict[str, tf.Variable]) -> None:
        """Assigns `weights`, by path, to the network."""
        for weight in self._model.weights:
            weight.assign(weights[weight.path].read_value())

    def evaluate(self, source: data.Source, split: str, *, batch_size: int, **settings) -> dict[str, float]:
        """Evaluates the network on `split`.

        Args:
            source: The data source.
            split: A split or slice such as "test" or "train[90%:]".
            batch_size: Examples over all replicas. The last batch is padded and the padding masked.
            **settings: Further arguments of `data.eval_dataset`.

        Returns:
            The task's metrics, and "examples", the number of examples that could be decoded.

        Raises:
            DataError: Too many images are corrupt.
            TrainingError: The outputs are not finite.
        """

        def make_dataset(context):
            if self._task.uses_index and context.num_input_pipelines > 1:
                raise ConfigError(
                    f"{context.num_input_pipelines} hosts read the images, not in the order of the split, which "
                    "--predictions, --top_losses and --real_labels need; evaluate on one host"
                )
            # Padding to whole global batches first ensures that no replica runs out of examples before the others.
            dataset = data.eval_dataset(
                source,
                split,
                batch_size=batch_size // context.num_input_pipelines,
                shard=(context.input_pipeline_id, context.num_input_pipelines),
                count_corrupt=self._count_corrupt(context),
                **settings,
            )
            return dataset.rebatch(context.get_per_replica_batch_size(batch_size), drop_remainder=True)

        batches = data.num_eval_batches(source, split, batch_size)
        iterator = iter(self._strategy.distribute_datasets_from_function(make_dataset))
        with data.reraise_data_errors():
            totals, collected = tf.nest.map_structure(
                lambda tensor: tensor.numpy(), self._compiled(iterator, tf.constant(batches))
            )
        examples = int(totals.pop("examples"))
        if not all(np.isfinite(total).all() for total in totals.values()):
            raise TrainingError(self._not_finite(split))
        if collected:  # in the order of the split, including padding, with one input pipeline
            (indices,) = np.nonzero(collected.pop("mask"))
            self.predictions = {**{name: values[indices] for name, values in collected.items()}, "index": indices}
        metrics = self._task.eval_metrics(totals, self.predictions, examples, source, split)
        return {**metrics, "examples": examples}

    def _not_finite(self, split):
        weight = first_not_finite(self._model)
        cause = f"{weight} has NaN or infinite values" if weight else "the weights are finite, but activations are not"
        return f"the output of {self._model.name} on {split} is not finite: {cause}; use another checkpoint"

    def step(self, batch: dict) -> tuple[dict[str, tf.Tensor], dict[str, tf.Tensor]]:
        """Returns the totals and the collected predictions of a replica's batch {"image", "label", "mask"}."""
        outputs = self._task.predict(self._model, batch["image"])
        totals = self._task.eval_totals(batch["label"], outputs, batch["mask"])
        predictions = self._task.eval_predictions(batch["label"], outputs)
        if predictions:
            predictions = {**predictions, "mask": batch["mask"]}
        return {**totals, "examples": tf.reduce_sum(batch["mask"])}, predictions

    def _run(self, iterator, batches):
        totals = {**self._task.initial_totals(self._model.output_shape), "examples": tf.zeros([])}
        dtypes = dict(self._task.prediction_dtypes)
        if dtypes:
            dtypes["mask"] = tf.float32
        collected = {name: tf.TensorArray(dtype, size=batches) for name, dtype in dtypes.items()}
        for index in tf.range(batches):
            batch_totals, predictions = self._strategy.run(self.step, args=(next(iterator),))
            totals = {
                name: total + self._strategy.reduce(tf.distribute.ReduceOp.SUM, batch_totals[name], axis=None)
                for name, total in totals.items()
            }
            collected = {
                name: array.write(index, self._strategy.gather(predictions[name], axis=0))
                for name, array in collected.items()
            }
        return totals, {name: array.concat() for name, array in collected.items()}


class CheckpointEvaluator:
    """Evaluates the checkpoints of a run, or a file of weights.

    Args:
        config: Config of the run.
        workdir: Folder of the run; None for a file of weights.
        devices: The connected devices.
        split: Split to evaluate on; None for `config.data.eval_split`.
        weights: "auto", "ema" or "raw"; see `checkpoints.restore_weights`.
        batch_size: Examples over all replicas; None for the config's evaluation batch size.
        class_names: Names of the network's classes; the data may have some of them only. None: those of the data.
        **options: Further arguments of `tasks.get_eval_task`.

    Attributes:
        task: The task, with the metrics and files that the options add.

    Raises:
        ConfigError: The batch size is not divisible by the number of replicas or does not fit into memory, the data has
            other classes than the run was trained on, or an option does not fit the task or the split.
        DataError: The split does not exist.
    """

    def __init__(
        self,
        config: ml_collections.ConfigDict,
        workdir: str | None,
        devices: Devices,
        split: str | None = None,
        weights: str = "auto",
        batch_size: int | None = None,
        class_names: Sequence[str] | None = None,
        **options: Any,
    ):
        self._config, self._workdir, self._weights = config, workdir, weights
        self._real_labels = options.get("real_labels")
        self._split = split or config.data.eval_split
        self._batch_size = batch_size or config.eval_batch_size or config.batch_size
        if self._batch_size % devices.num_replicas:
            raise ConfigError(
                f"batch_size={self._batch_size} is not divisible by {devices.num_replicas} replicas; use a multiple"
            )
        # Images of evaluation that are not those of training do not need these.
        self._source = get_task(config).open_eval_source(config.data.source, config.data.data_dir)
        trained_classes = load_classes(workdir) if workdir and self._source else None
        if self._source is None:
            self._source = experiment.open_source(config)
            if class_names is not None:
                self._source = data.RelabeledSource(self._source, class_names)
            if workdir:
                verify_classes(workdir, self._source.class_names)
        num_classes = len(trained_classes or self._source.class_names)
        self._source.num_examples(self._split)
        self.task = get_eval_task(config, self._source, self._split, **options)
        self._settings = experiment.metric_settings(config)
        if devices.kind == "cpu":
            max_boxes = self._source.max_boxes
            check_memory(config, num_classes, max_boxes=max_boxes, eval_batch_size=self._batch_size)
        with devices.strategy.scope():
            self._model = experiment.build_model(config, num_classes)
        self._evaluator = Evaluator(self._model, devices.strategy, self.task, devices.has_local_input)

    def evaluate(self, which: str) -> dict:
        """Evaluates a checkpoint of the run, or the file of weights.

        Args:
            which: "newest", "best" or a path, see `checkpoints.find_checkpoint`.

        Returns:
            The task's metrics, "examples", and what was evaluated, as JSON values.
        """
        path, kind, step = checkpoints.load(self._workdir, which, self._model, self._weights)
        metrics = self._evaluator.evaluate(self._source, self._split, batch_size=self._batch_size, **self._settings)
        for name, values in metrics.items():
            if isinstance(values, dict):  # by class index
                metrics[name] = {self._source.class_names[number]: value for number, value in values.items()}
        return {
            "step": step,
            "weights": kind,
            "split": self._split,
            **metrics,
            "model": self._config.model.name,
            "source": self._source.spec,
            **({"real_labels": self._real_labels} if self._real_labels else {}),
            "image_size": self._settings["image_size"][0],
            "overrides": changed_fields(self._config, self._workdir) if self._workdir else {},
            "checkpoint": path,
            "convzoo": convzoo.__version__,
            "tensorflow": tf.__version__,
            "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        }

    def write(self, result: dict, path: str | None = None) -> str:
        """Writes the result of the last `evaluate` as JSON, and the files of `Task.eval_files` beside it.

        Args:
            result: The result.
            path: The file; by default it is in WORKDIR/evaluations, or beside the file of weights.

        Returns:
            The path of the JSON file.

        Raises:
            ConfigError: It cannot be written.
        """
        if path is None:
            split = urllib.parse.quote(result["split"], safe="")
            if result["step"] is None:
                source = urllib.parse.quote(result["source"], safe="")
                path = f"{result['checkpoint'].removesuffix(SUFFIX)}_{source}_{split}.json"
            else:
                overrides = [f"_{name.split('.')[-1]}={value}" for name, value in result["overrides"].items()]
                changes = urllib.parse.quote("".join(overrides), safe="=,")
                if len(changes) > _LONGEST_CHANGES:
                    changes = f"_{hashlib.sha256(changes.encode()).hexdigest()[:12]}"
                name = f"step_{result['step']:08d}_{result['weights']}_{split}{changes}.json"
                run = os.path.dirname(os.path.dirname(os.path.abspath(result["checkpoint"])))
                if "://" not in self._workdir and run != os.path.abspath(self._workdir):  # of another run
                    name = f"{os.path.basename(run)}_{name}"
                path = os.path.join(self._workdir, EVALUATIONS_FOLDER, name)
        transform = experiment.input_settings(self._config)
        files = self.task.eval_files(self._evaluator.predictions, self._source, self._split, transform)
        contents = {f"{path}.{name}": content for name, content in files.items()}
        contents[path] = (json.dumps(result, indent=2) + "\n").encode()
        try:
            for file, content in contents.items():  # all of them before one is written
                check_output(file, content)
            for file, content in contents.items():
                write_output(file, content)
        except (tf.errors.OpError, OSError) as error:
            raise ConfigError(f"cannot write {path!r} ({first_line(error)}); choose another --output") from error
        return path

    def follow(self, timeout: float | None = None) -> Iterator[dict]:
        """Evaluates the checkpoints of a running training as they appear, until its last step.

        On the experiment's own evaluation split, the best checkpoint is copied to WORKDIR/best. On other splits, such
        as a test split, it is not, because they must not select a checkpoint.

        Args:
            timeout: Seconds to wait for a new checkpoint; None waits without limit.

        Raises:
            ConfigError: No new checkpoint appeared in time, or the training may stop early.
        """
        if (patience := self._config.early_stopping.patience) is not None:
            raise ConfigError(
                f"config.early_stopping.patience={patience} can end the training at any evaluation, unseen by "
                "--follow; leave out --follow"
            )
        source = experiment.open_source(self._config)
        steps_per_epoch = source.num_examples(self._config.data.train_split) / self._config.batch_size
        last_step = experiment.total_steps(self._config, steps_per_epoch)
        evaluated = None
        while evaluated is None or evaluated["step"] < last_step:
            self._wait_for_another_than(evaluated and evaluated["checkpoint"], timeout)
            evaluated = self.evaluate("newest")
            if self._split == self._config.data.eval_split:
                metric = self.task.best_metric
                arguments = (evaluated["checkpoint"], evaluated["step"], metric, evaluated[metric])
                try:
                    checkpoints.copy_if_best(self._workdir, *arguments)
                except tf.errors.NotFoundError:
                    logging.warning(
                        "training removed %s before it was evaluated; increase config.keep_checkpoints",
                        evaluated["checkpoint"],
                    )
            yield evaluated

    def _wait_for_another_than(self, path, timeout):
        """Waits until the run has a newest checkpoint other than `path`."""
        start = time.monotonic()
        while checkpoints.newest(self._workdir) in (None, path):
            if timeout is not None and time.monotonic() - start > timeout:
                folder = os.path.join(self._workdir, checkpoints.NEWEST_FOLDER)
                raise ConfigError(
                    f"no new checkpoint appeared in {folder} within {timeout:g} s; is the training running?"
                )
            time.sleep(_POLL_SECONDS)
