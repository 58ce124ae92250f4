"""The task's figures over every example of a split, each counted exactly once."""

from collections.abc import Callable

import keras
import tensorflow as tf

from convzoo import data
from convzoo.training.tasks import Task


class Evaluator:
    """Evaluates a network's weights on a split. A training gives it a copy of its network, and goes on undisturbed.

    Args:
        model: The network, built in the strategy's scope.
        strategy: The strategy it was built under.
        task: What its answers are.
        makes_batches: `Devices.makes_batches` of the devices.
    """

    def __init__(
        self,
        model: keras.Model,
        strategy: tf.distribute.Strategy,
        task: Task,
        makes_batches: Callable[[tf.distribute.InputContext], bool] = lambda context: True,
    ):
        self._model, self._strategy, self._task, self._makes_batches = model, strategy, task, makes_batches
        self._compiled = tf.function(self._run)

    def take(self, weights: dict[str, tf.Variable]) -> None:
        """Overwrites the network's weights with others, given by path."""
        for weight in self._model.weights:
            weight.assign(weights[weight.path].read_value())

    def evaluate(self, source: data.Source, split: str, *, batch_size: int, **inputs) -> dict[str, float]:
        """Evaluates the network on `split`.

        Args:
            source: The data source.
            split: As "test" or "train[90%:]".
            batch_size: Examples over all replicas; the last batch is padded and the padding masked.
            **inputs: Size and normalisation of the pictures and what else `data.eval_dataset` takes.

        Returns:
            The task's figures, shares of 1 and the loss (cross-entropy without smoothing), and "examples", those that
            could be decoded.

        Raises:
            data.DataError: More pictures are broken than may be.
        """

        def dataset(context):
            # Padded to whole batches of all replicas first, so that none of them runs out before the others.
            whole = data.eval_dataset(
                source,
                split,
                batch_size=batch_size // context.num_input_pipelines,
                shard=(context.input_pipeline_id, context.num_input_pipelines),
                counts_broken=self._makes_batches(context),
                **inputs,
            )
            return whole.rebatch(context.get_per_replica_batch_size(batch_size), drop_remainder=True)

        batches = data.num_eval_batches(source, split, batch_size)
        iterator = iter(self._strategy.distribute_datasets_from_function(dataset))
        with data.input_errors():
            sums = {name: value.numpy() for name, value in self._compiled(iterator, tf.constant(batches)).items()}
        examples = int(sums.pop("examples"))
        return {**self._task.figures(sums, examples), "examples": examples}

    def step(self, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """The task's sums over a replica's batch {"image", "label", "mask"}, and the "examples" that count."""
        logits = tf.cast(self._model(batch["image"], training=False), tf.float32)
        sums = self._task.sums(batch["label"], logits, batch["mask"])
        return {**sums, "examples": tf.reduce_sum(batch["mask"])}

    def _run(self, iterator, batches):
        sums = {**self._task.zeros(self._model.output_shape[-1]), "examples": tf.zeros([])}
        for _ in tf.range(batches):
            of_replicas = self._strategy.run(self.step, args=(next(iterator),))
            sums = {
                name: total + self._strategy.reduce(tf.distribute.ReduceOp.SUM, of_replicas[name], axis=None)
                for name, total in sums.items()
            }
        return sums
