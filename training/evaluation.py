"""Accuracy and loss over every example of a split, each counted exactly once."""

import keras
import tensorflow as tf

from convzoo import data
from convzoo.training.step import cross_entropy


class Evaluator:
    """Evaluates a network's weights on a split. A training gives it a copy of its network, and goes on undisturbed.

    Args:
        model: The network, built in the strategy's scope.
        strategy: The strategy it was built under.
    """

    def __init__(self, model: keras.Model, strategy: tf.distribute.Strategy):
        self._model, self._strategy = model, strategy
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
            **inputs: Size and normalisation of the pictures, as `data.eval_dataset` takes them.

        Returns:
            "loss" (cross-entropy without smoothing), "top1" and "top5" as shares of 1, and "examples".
        """

        def dataset(context):
            # Padded to whole batches of all replicas first, so that none of them runs out before the others.
            whole = data.eval_dataset(
                source,
                split,
                batch_size=batch_size // context.num_input_pipelines,
                shard=(context.input_pipeline_id, context.num_input_pipelines),
                **inputs,
            )
            return whole.rebatch(context.get_per_replica_batch_size(batch_size), drop_remainder=True)

        batches = data.num_eval_batches(source, split, batch_size)
        iterator = iter(self._strategy.distribute_datasets_from_function(dataset))
        sums = {name: value.numpy() for name, value in self._compiled(iterator, tf.constant(batches)).items()}
        examples = sums.pop("examples")
        return {name: float(value / examples) for name, value in sums.items()} | {"examples": int(examples)}

    def _run(self, iterator, batches):
        sums = {name: tf.zeros([]) for name in ("loss", "top1", "top5", "examples")}
        for _ in tf.range(batches):
            of_replicas = self._strategy.run(self._step, args=(next(iterator),))
            sums = {
                name: total + self._strategy.reduce(tf.distribute.ReduceOp.SUM, of_replicas[name], axis=None)
                for name, total in sums.items()
            }
        return sums

    def _step(self, batch):
        labels, mask = batch["label"], batch["mask"]
        logits = tf.cast(self._model(batch["image"], training=False), tf.float32)
        best = tf.math.top_k(logits, min(5, logits.shape[-1])).indices
        right = tf.cast(tf.equal(best, labels[:, tf.newaxis]), tf.float32)
        return {
            "loss": tf.reduce_sum(cross_entropy(labels, logits) * mask),
            "top1": tf.reduce_sum(right[:, 0] * mask),
            "top5": tf.reduce_sum(tf.reduce_max(right, axis=-1) * mask),
            "examples": tf.reduce_sum(mask),
        }
