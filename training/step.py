"""One training step of one replica: loss, gradient, update."""

import keras
import tensorflow as tf

from convzoo.training.tasks import Classification


class TrainStep:
    """Computes the gradient of the whole batch's loss from one replica's part of it, and applies it.

    The loss is the mean of the task's over the global batch, plus weight_decay times half the sum of squares of every
    trainable weight outside batch normalisation: biases, routing and experts too, as the EfficientNet code has it.

    Args:
        model: From float images [batch, height, width, channels] to logits.
        optimizer: A built Keras optimiser.
        average: A `MovingAverage`, or None.
        batch_size: Examples of the global batch.
        num_replicas: Replicas that share it.
        task: What the logits are, and how they are scored; None is classification.
        label_smoothing: See `Task.losses`.
        weight_decay: Of the penalty above.
        parts: Parts that the replica's batch is computed in, one after the other, to save memory.
        clip_norm: Bound of the global norm of the whole batch's gradient, or None.
    """

    def __init__(
        self, model, optimizer, average=None, *, batch_size, num_replicas=1, task=None, label_smoothing=0.0,
        weight_decay=0.0, parts=1, clip_norm=None,
    ):  # fmt: skip
        self._task = task or Classification()
        self._model, self._optimizer, self._average = model, optimizer, average
        self._batch_size, self._num_replicas, self._parts = batch_size, num_replicas, parts
        self._label_smoothing, self._weight_decay, self._clip_norm = label_smoothing, weight_decay, clip_norm
        normalised = {
            id(weight)
            for layer in model.layers
            if isinstance(layer, keras.layers.BatchNormalization)
            for weight in layer.trainable_weights
        }
        self._decayed = [id(weight) not in normalised for weight in model.trainable_weights]

    def __call__(self, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Runs in replica context on {"image": [batch, h, w, c], "label": [batch, ...]}.

        Returns sums over the replica's examples, before the update: "loss" and "correct".
        """
        weights = self._model.trainable_weights
        gradients = [tf.zeros(weight.shape) for weight in weights]
        sums = {"loss": tf.zeros([]), "correct": tf.zeros([])}
        # Unrolled: a while loop could not hold the cross-replica sums of synchronised batch normalisation.
        for images, labels in zip(
            tf.split(batch["image"], self._parts), tf.split(batch["label"], self._parts), strict=True
        ):
            with tf.GradientTape() as tape:
                logits = self._model(images, training=True)
                with tf.name_scope("loss"):  # names for whoever looks at the compiled step or a profile of it
                    losses = self._task.losses(labels, logits, self._label_smoothing)
                    loss = tf.reduce_sum(losses) / self._batch_size
            for index, gradient in enumerate(tape.gradient(loss, [weight.value for weight in weights])):
                gradients[index] += tf.cast(gradient, tf.float32)
            sums["loss"] += tf.reduce_sum(losses)
            sums["correct"] += tf.reduce_sum(self._task.right(labels, logits))
        with tf.name_scope("update"):
            step = self._update(gradients, weights)
        if self._average is not None:
            with tf.name_scope("average"):
                self._average.update(step)
        return sums

    def _update(self, gradients, weights):
        """Applies the gradient and the penalty's; returns the number of the step."""
        if self._weight_decay:
            # The penalty's gradient, shared out, because the replicas' gradients are added up.
            for index, (weight, decayed) in enumerate(zip(weights, self._decayed, strict=True)):
                if decayed:
                    gradients[index] += weight.value * (self._weight_decay / self._num_replicas)
        if self._clip_norm is not None:
            gradients = self._clip(gradients)
        step = tf.identity(self._optimizer.iterations.value)
        self._optimizer.apply(gradients, weights)
        return step

    def _clip(self, gradients):
        # Clipped after the replicas' gradients are added, then shared out: the optimiser adds them up again.
        if self._num_replicas > 1:
            context = tf.distribute.get_replica_context()
            gradients = context.all_reduce(tf.distribute.ReduceOp.SUM, gradients)
        clipped, _ = tf.clip_by_global_norm(gradients, self._clip_norm)
        return [gradient / self._num_replicas for gradient in clipped]
