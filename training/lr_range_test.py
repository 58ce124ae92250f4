"""Learning-rate range test (arXiv 1506.01186): a short training whose learning rate grows exponentially."""

import dataclasses
import math
from collections.abc import Sequence

import keras
import ml_collections
import numpy as np
import tensorflow as tf

from convzoo import data
from convzoo.configs.schema import validate
from convzoo.tasks import get_task
from convzoo.training import experiment, fine_tuning
from convzoo.training.batch_norm import fuse_batch_norm
from convzoo.training.devices import Devices
from convzoo.training.state import build_train_state, decorrelate_replica_seeds
from convzoo.training.train_step import MultiStep, initial_sums, step_settings

# As fastai's lr_find does.
_SMOOTHING, _DIVERGED = 0.98, 4.0
_SKIPPED_SHARE, _SKIPPED_END = 0.1, 5


@dataclasses.dataclass(frozen=True)
class LrRange:
    """The result of a range test.

    Attributes:
        learning_rates: Learning rate of each step.
        losses: Mean loss of the step's batch, before its update.
        smoothed_losses: Exponential moving average of the losses, corrected for its start.
        suggestion: Learning rate at which the smoothed loss falls fastest; None if the test was too short to tell.
    """

    learning_rates: list[float]
    losses: list[float]
    smoothed_losses: list[float]
    suggestion: float | None


def lr_range_test(
    config: ml_collections.ConfigDict,
    devices: Devices,
    *,
    start_lr: float = 1e-7,
    end_lr: float = 10.0,
    num_steps: int = 100,
) -> LrRange:
    """Trains from the initial weights of an experiment with a learning rate that grows in each step. Writes nothing.

    The test ends early when the smoothed loss is four times its minimum or the loss is not finite.

    Args:
        config: The experiment. Its learning rate, schedule and moving average have no effect.
        devices: The connected devices of one worker.
        start_lr, end_lr: Learning rates of the first and the last step.
        num_steps: Number of steps.

    Raises:
        ConfigError, DataError, ModelError: The experiment is invalid.
    """
    validate(config, devices.num_replicas)
    initialization = fine_tuning.find_initialization(config)
    config, _ = fine_tuning.with_overrides(config, initialization.overrides if initialization else {})
    with config.unlocked():
        config.ema_decay = None
    source, task = experiment.open_source(config), get_task(config)
    keras.utils.set_random_seed(config.seed)
    schedule = keras.optimizers.schedules.ExponentialDecay(start_lr, num_steps - 1, end_lr / start_lr)

    def make_dataset(context):
        return data.train_dataset(
            source,
            config.data.train_split,
            batch_size=context.get_per_replica_batch_size(config.batch_size),
            shard=(context.input_pipeline_id, context.num_input_pipelines),
            count_corrupt=devices.has_local_input(context),
            **experiment.train_settings(config),
        )

    with devices.strategy.scope():
        state = build_train_state(config, source.num_classes, schedule, devices.num_replicas, initialization)
        if devices.kind != "tpu" and 1 in (devices.num_replicas, config.batch_norm_replicas):
            fuse_batch_norm(state.model)
    decorrelate_replica_seeds(state.model, devices.strategy)
    settings = {**step_settings(config, task, devices.num_replicas), "log_norms": False}
    step = MultiStep(devices.strategy, state, measure_input_wait=False, **settings)
    losses, smoothed = [], []
    with data.reraise_data_errors():
        iterator = iter(devices.strategy.distribute_datasets_from_function(make_dataset))
        for _ in range(num_steps):
            sums, *_ = step(iterator, 1, initial_sums(task))
            loss = float(sums["loss"]) / config.batch_size
            if not math.isfinite(loss):
                break
            losses.append(loss)
            smoothed = smooth(losses)
            if smoothed[-1] > _DIVERGED * min(smoothed):
                break
    learning_rates = schedule(tf.range(len(losses))).numpy().astype(float).tolist() if losses else []
    return LrRange(learning_rates, losses, smoothed, suggest(learning_rates, smoothed, num_steps))


def smooth(losses: Sequence[float]) -> list[float]:
    """Returns the exponential moving average of the losses, each divided by the sum of its weights.

    Example:
        >>> [round(loss, 4) for loss in smooth([2.0, 1.0])]
        [2.0, 1.4949]
    """
    average, smoothed = 0.0, []
    for count, loss in enumerate(losses, start=1):
        average = _SMOOTHING * average + (1 - _SMOOTHING) * loss
        smoothed.append(average / (1 - _SMOOTHING**count))
    return smoothed


def suggest(learning_rates: Sequence[float], smoothed: Sequence[float], num_steps: int) -> float | None:
    """Returns the learning rate at which the smoothed loss falls fastest over the logarithm of the learning rate.

    The first tenth of `num_steps` and the last five values do not count, as in fastai; None if less than two others are
    left or the loss does not fall.
    """
    part = slice(int(_SKIPPED_SHARE * num_steps), -_SKIPPED_END)
    rates, losses = np.array(learning_rates[part]), np.array(smoothed[part])
    if len(rates) < 2:
        return None
    slopes = np.diff(losses) / np.diff(np.log(rates))
    return float(rates[slopes.argmin()]) if slopes.min() < 0 else None
