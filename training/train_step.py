"""One optimizer update on every replica, and many of them in one call."""

import functools
from collections.abc import Collection, Iterable
from typing import Any

import keras
import ml_collections
import tensorflow as tf

from convzoo.tasks import Task
from convzoo.training.norms import norms
from convzoo.training.optimizers import decays_weights
from convzoo.training.state import TrainState
from convzoo.training.weight_decay import weight_decays


def train_step(
    state: TrainState,
    batch: dict[str, Any],
    *,
    task: Task,
    batch_size: int,
    num_replicas: int = 1,
    label_smoothing: float = 0.0,
    weight_decay: float = 0.0,
    weight_decay_on: Collection[str] = ("kernels", "biases"),
    weight_decay_multipliers: Collection[tuple[str, float]] = (),
    accumulation_steps: int = 1,
    clip_norm: float | None = None,
    log_norms: bool = False,
) -> dict[str, tf.Tensor]:
    """Updates the model once with this replica's part of a batch. Runs in replica context.

    Minimizes the task's mean loss over the global batch, plus `weight_decay` times half the sum of squares of the
    trainable weights that `weight_decay_on` names. By default these are, as in the EfficientNet code, all but those of
    BatchNorm: biases, routing weights and experts too. Regularizers of layers are not applied.

    Args:
        state: Model, optimizer and moving average, updated in place.
        batch: "image", float [examples, height, width, channels], and "label".
        task: Computes losses and metrics.
        batch_size: Examples of the global batch.
        num_replicas: Replicas that share the global batch.
        label_smoothing: See `Task.losses`.
        weight_decay: Factor of the penalty.
        weight_decay_on: "batch_norm" covers scales and offsets of BatchNorm, "biases" all other biases, and "kernels"
            the remaining weights.
        weight_decay_multipliers: Shell patterns of weights and factors on their penalty.
        accumulation_steps: Number of equal parts that the replica's examples are processed in, to save memory.
        clip_norm: Largest global norm of the gradient of the global batch; None for no clipping.
        log_norms: Whether to return `norms` of the update. The gradients are those of the global batch with the
            penalty, before clipping.

    Returns:
        Sums over the replica's examples of "loss", the task's loss without the penalty, and of `task.train_metrics`,
        computed before the update; the norms, multiplied by the number of these examples.
    """
    weights, optimizer = state.model.trainable_weights, state.optimizer
    scales_loss = isinstance(optimizer, keras.optimizers.LossScaleOptimizer)
    gradients = [tf.zeros(weight.shape) for weight in weights]
    sums = initial_sums(task)
    # Unrolled: a while loop cannot contain the cross-replica sums of synchronized BatchNorm.
    for index in range(accumulation_steps):
        images, labels = _part((batch["image"], batch["label"]), index, accumulation_steps)
        with tf.GradientTape() as tape:
            outputs = state.model(images, training=True)
            with tf.name_scope("loss"):  # this scope and those below name ops in profiles and compiled steps
                losses = task.losses(labels, outputs, label_smoothing)
                loss = optimizer.scale_loss(tf.reduce_sum(losses) / batch_size)
        for position, gradient in enumerate(tape.gradient(loss, [weight.value for weight in weights])):
            gradients[position] += tf.cast(gradient, tf.float32)
        for name, values in {"loss": losses, **task.train_metrics(labels, outputs)}.items():
            sums[name] += tf.reduce_sum(values)
    with tf.name_scope("update"):
        step = tf.identity(optimizer.iterations.value)
        if scales_loss:
            scale = optimizer.scale_loss(1.0)  # a power of two, so scaling is exact
            gradients = [gradient / scale for gradient in gradients]
        if weight_decay:  # a replica's share: the optimizer sums over replicas
            decay = weight_decay / num_replicas
            gradients = _add_weight_decay(gradients, state.model, decay, weight_decay_on, weight_decay_multipliers)
        if log_norms:
            gradients_of_batch = _sum_over_replicas(gradients, num_replicas)
            before = [tf.identity(weight.value) for weight in weights]
        if clip_norm is not None or scales_loss:  # all replicas must clip alike, and skip a step alike
            gradients = _sum_over_replicas(gradients, num_replicas)
            if clip_norm is not None:
                gradients, _ = tf.clip_by_global_norm(gradients, clip_norm)
            gradients = [gradient / num_replicas for gradient in gradients]  # the optimizer adds them up again
        if scales_loss:
            optimizer.apply([gradient * scale for gradient in gradients], weights)
            optimizer.iterations.assign(step + 1)  # counts skipped steps too, as the schedule and the data do
        else:
            optimizer.apply(gradients, weights)
        if log_norms:
            after = [weight.value.read_value() for weight in weights]
            for name, value in norms(state.model, gradients_of_batch, before, after).items():
                sums[name] = value * batch_size / num_replicas
    if state.ema is not None:
        with tf.name_scope("ema"):
            state.ema.update(step)
    return sums


def initial_sums(task: Task, norm_names: Iterable[str] = ()) -> dict[str, tf.Tensor]:
    """Returns zeros for the sums of `train_step`; with `log_norms`, `norm_names` are those of its network."""
    return {name: tf.zeros([]) for name in ("loss", *task.train_metric_names, *norm_names)}


def step_settings(config: ml_collections.ConfigDict, task: Task, num_replicas: int = 1) -> dict[str, Any]:
    """Returns the keyword arguments of `train_step` for an experiment."""
    return {
        "task": task,
        "batch_size": config.batch_size,
        "num_replicas": num_replicas,
        "label_smoothing": config.label_smoothing,
        "weight_decay": 0.0 if decays_weights(config) else config.weight_decay,
        "weight_decay_on": config.weight_decay_on,
        "weight_decay_multipliers": config.weight_decay_multipliers,
        "accumulation_steps": config.gradient_accumulation_steps,
        "clip_norm": config.clip_norm,
        "log_norms": config.log_norms,
    }


def _part(tensors, index, count):
    """Returns part `index` of `count` equal parts of every tensor along the batch axis."""
    return tf.nest.map_structure(lambda tensor: tf.split(tensor, count)[index], tensors)


def _add_weight_decay(gradients, model, *decay):
    """Adds the decay of each weight; `decay` are the arguments of `weight_decays`."""
    decays = weight_decays(model, *decay)
    return [
        gradient + weight.value * decays[weight.path] if decays[weight.path] else gradient
        for gradient, weight in zip(gradients, model.trainable_weights, strict=True)
    ]


def _sum_over_replicas(gradients, num_replicas):
    if num_replicas == 1:
        return gradients
    return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, gradients)


class MultiStep:
    """Runs many training steps in one call of a `tf.function` and sums their metrics on the devices.

    Args:
        strategy: The distribution strategy of `state`.
        state: What is trained.
        measure_input_wait: Whether to measure the time spent waiting for input. TensorFlow forbids reading the clock in
            a deterministic run.
        **step_settings: Further arguments of `train_step`.
    """

    def __init__(
        self, strategy: tf.distribute.Strategy, state: TrainState, measure_input_wait: bool = True, **step_settings
    ):
        self._strategy, self._measure_input_wait = strategy, measure_input_wait
        self._iterations = state.optimizer.iterations.value
        # A TPU returns the sums of a step when the step is complete, other devices as soon as they are computed.
        is_tpu = isinstance(strategy, tf.distribute.TPUStrategy)
        self._updated = () if is_tpu else tuple(state.variables().values())
        self._train_step = functools.partial(train_step, state, **step_settings)
        self._compiled = tf.function(self._loop)

    def __call__(self, iterator, steps: int, sums: dict[str, tf.Tensor]) -> tuple[dict[str, tf.Tensor], int, float]:
        """Makes `steps` steps on the next batches.

        Args:
            iterator: Iterator of a distributed dataset of the strategy.
            steps: At least 1.
            sums: `initial_sums` or the sums that an earlier call returned.

        Returns:
            `sums` plus the sums over all examples of the steps; the number of the first step, from 0, whose loss was
            not finite, or -1; the seconds spent waiting for input.
        """
        sums, bad_step, waited = self._compiled(iterator, tf.constant(steps), sums)
        return sums, int(bad_step), float(waited)

    def _loop(self, iterator, steps, sums):
        bad_step = tf.constant(-1, tf.int64)
        waited, step_end = tf.constant(0.0, tf.float64), self._time_after([])
        for _ in tf.range(steps):
            step = tf.cast(self._iterations.read_value(), tf.int64)
            batch = next(iterator)
            # The wait is the time from the end of a step until the next batch is available. Both clock readings depend
            # only on their tensors, so input and computation still overlap.
            batch_time = self._time_after(self._strategy.experimental_local_results(batch["image"]))
            waited += tf.maximum(batch_time - step_end, 0.0)
            replica_sums = self._strategy.run(self._train_step, args=(batch,))
            step_sums = {
                name: self._strategy.reduce(tf.distribute.ReduceOp.SUM, value, axis=None)
                for name, value in replica_sums.items()
            }
            step_end = self._time_after([*step_sums.values(), *self._read_updated()])
            sums = {name: sums[name] + step_sums[name] for name in sums}
            is_first_bad = tf.logical_and(bad_step < 0, tf.logical_not(tf.math.is_finite(step_sums["loss"])))
            bad_step = tf.where(is_first_bad, step, bad_step)
        return sums, bad_step, waited

    def _read_updated(self):
        """Returns the values on all local replicas of the variables that a step updates."""
        if not self._measure_input_wait:
            return []
        results = self._strategy.experimental_local_results
        return [part.read_value() for variable in self._updated for part in results(variable)]

    def _time_after(self, tensors):
        """Returns the time in seconds, float64 [], at which all `tensors` are available."""
        if not self._measure_input_wait:
            return tf.constant(0.0, tf.float64)
        with tf.control_dependencies(tf.nest.flatten(list(tensors))):
            return tf.timestamp()
