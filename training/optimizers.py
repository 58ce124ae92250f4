"""Optimizers and learning-rate schedules as in the code of the papers."""

import keras
import ml_collections

from convzoo.training.keras_internals import optimizer_variable_key, rmsprop_mean_squares


class _LearningRateMultipliers:
    """Mixin for Keras optimizers: a learning-rate multiplier for each variable.

    Scaling the gradient instead would have no effect with RMSProp, which divides by the gradient's magnitude.
    """

    _multipliers = None

    def scale_learning_rate(self, variables, multiplier: float) -> None:
        """Multiplies the learning rate of `variables`, for which the optimizer is built, by `multiplier`."""
        multipliers = dict(self._multipliers or {})
        for variable in variables:
            key = optimizer_variable_key(self, variable)  # an update receives the copy of one replica
            multipliers[key] = multipliers.get(key, 1.0) * multiplier
        self._multipliers = multipliers

    def update_step(self, gradient, variable, learning_rate):
        """Updates one variable; Keras calls this."""
        multiplier = (self._multipliers or {}).get(optimizer_variable_key(self, variable), 1.0)
        super().update_step(gradient, variable, learning_rate if multiplier == 1.0 else learning_rate * multiplier)


@keras.saving.register_keras_serializable(package="convzoo")
class SGD(_LearningRateMultipliers, keras.optimizers.SGD):
    """Keras's SGD with momentum, and learning-rate multipliers."""


@keras.saving.register_keras_serializable(package="convzoo")
class RMSPropTF1(_LearningRateMultipliers, keras.optimizers.RMSprop):
    """RMSProp as TensorFlow 1 computes it; EfficientNet and CondConv were trained with it.

    It differs from Keras's RMSprop in that the mean square starts at 1 instead of 0, which makes the first steps small:

        mean_square = rho * mean_square + (1 - rho) * gradient**2
        velocity    = momentum * velocity + learning_rate * gradient / sqrt(mean_square + epsilon)
        variable   -= velocity

    Example:
        >>> RMSPropTF1(0.1, rho=0.9, momentum=0.9, epsilon=1e-3).rho
        0.9
    """

    def build(self, variables):
        """Creates the slots of `variables`, with mean squares of 1."""
        if self.built:
            return
        super().build(variables)
        for mean_square in rmsprop_mean_squares(self):
            mean_square.assign(keras.ops.ones(mean_square.shape, mean_square.dtype))


@keras.saving.register_keras_serializable(package="convzoo")
class WarmUp(keras.optimizers.schedules.LearningRateSchedule):
    """A schedule that rises linearly from 0 in its first steps, as in the EfficientNet code.

    The warm-up does not delay the schedule: a decay that starts at step 0 is already a little below the peak when the
    warm-up ends.

    Args:
        schedule: The schedule after the warm-up.
        peak: The learning rate that the rise would reach at `warmup_steps`.
        warmup_steps: Number of steps of the rise.
    """

    def __init__(self, schedule, peak, warmup_steps):
        super().__init__()
        self.schedule, self.peak, self.warmup_steps = schedule, peak, warmup_steps

    def __call__(self, step):
        """Returns the learning rate of the update after `step` updates."""
        step = keras.ops.cast(step, "float32")
        rising = self.peak * step / self.warmup_steps
        return keras.ops.where(step < self.warmup_steps, rising, self.schedule(step))

    def get_config(self):
        return {
            "schedule": keras.saving.serialize_keras_object(self.schedule),
            "peak": self.peak,
            "warmup_steps": self.warmup_steps,
        }

    @classmethod
    def from_config(cls, config):
        return cls(**{**config, "schedule": keras.saving.deserialize_keras_object(config["schedule"])})


def make_schedule(
    config: ml_collections.ConfigDict, total_steps: int, steps_per_epoch: float
) -> keras.optimizers.schedules.LearningRateSchedule:
    """Returns the learning rate by step, from `config.optimizer.learning_rate` and `config.schedule`.

    Args:
        config: The config of the experiment.
        total_steps: Steps of the whole run.
        steps_per_epoch: Steps that process as many examples as the training split has.
    """
    peak, schedule = config.optimizer.learning_rate, config.schedule
    schedules = keras.optimizers.schedules
    if schedule.name == "cosine":
        rate = schedules.CosineDecay(peak, max(1, total_steps), alpha=schedule.end_factor)
    elif schedule.name in ("linear", "poly"):
        power = 1 if schedule.name == "linear" else schedule.power
        rate = schedules.PolynomialDecay(peak, max(1, total_steps), peak * schedule.end_factor, power=power)
    elif schedule.name == "exponential":
        decay_steps = max(1, round(schedule.decay_epochs * steps_per_epoch))
        rate = schedules.ExponentialDecay(peak, decay_steps, schedule.decay_rate, staircase=True)
    elif schedule.name == "step":
        # PiecewiseConstantDecay keeps a rate up to and including the step of its boundary.
        boundaries = [round(epoch * steps_per_epoch) - 1 for epoch in schedule.milestones]
        rates = [peak * schedule.decay_rate**drops for drops in range(len(boundaries) + 1)]
        rate = schedules.PiecewiseConstantDecay(boundaries, rates)
    else:
        rate = schedules.PiecewiseConstantDecay([0], [peak, peak])
    warmup_steps = round(schedule.warmup_epochs * steps_per_epoch)
    return WarmUp(rate, peak, warmup_steps) if warmup_steps else rate


def make_optimizer(
    config: ml_collections.ConfigDict, schedule: keras.optimizers.schedules.LearningRateSchedule
) -> keras.optimizers.Optimizer:
    """Returns the optimizer of `config.optimizer` with the learning rate `schedule`."""
    optimizer = config.optimizer
    if optimizer.name == "sgd":
        return SGD(schedule, momentum=optimizer.momentum, nesterov=optimizer.nesterov, name="optimizer")
    return RMSPropTF1(
        schedule, rho=optimizer.rho, momentum=optimizer.momentum, epsilon=optimizer.epsilon, name="optimizer"
    )
