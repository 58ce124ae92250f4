"""Learning-rate schedules."""

import keras
import ml_collections


class _Wrapper(keras.optimizers.schedules.LearningRateSchedule):
    """Base of schedules that change another one: keeps it and the numbers `_arguments` in the config."""

    _arguments = ()

    def get_config(self):
        numbers = {name: getattr(self, name) for name in self._arguments}
        return {"schedule": keras.saving.serialize_keras_object(self.schedule), **numbers}

    @classmethod
    def from_config(cls, config):
        return cls(**{**config, "schedule": keras.saving.deserialize_keras_object(config["schedule"])})


@keras.saving.register_keras_serializable(package="convzoo")
class WarmUp(_Wrapper):
    """A schedule that rises linearly from 0 in its first steps, as in the EfficientNet code.

    The warm-up does not delay the schedule: a decay that starts at step 0 is already a little below the peak when the
    warm-up ends.

    Args:
        schedule: The schedule after the warm-up.
        peak: The learning rate that the rise would reach at `warmup_steps`.
        warmup_steps: Number of steps of the rise.
    """

    _arguments = ("peak", "warmup_steps")

    def __init__(self, schedule, peak, warmup_steps):
        super().__init__()
        self.schedule, self.peak, self.warmup_steps = schedule, peak, warmup_steps

    def __call__(self, step):
        """Returns the learning rate of the update after `step` updates."""
        step = keras.ops.cast(step, "float32")
        rising = self.peak * step / self.warmup_steps
        return keras.ops.where(step < self.warmup_steps, rising, self.schedule(step))


@keras.saving.register_keras_serializable(package="convzoo")
class CoolDown(_Wrapper):
    """A schedule that is multiplied by a factor from 1 to 0 in its last steps, as in big_vision.

    Args:
        schedule: The schedule before the cool-down.
        total_steps: Number of steps of the training, after which the factor is 0.
        cooldown_steps: Number of steps in which the factor falls linearly.
    """

    _arguments = ("total_steps", "cooldown_steps")

    def __init__(self, schedule, total_steps, cooldown_steps):
        super().__init__()
        self.schedule, self.total_steps, self.cooldown_steps = schedule, total_steps, cooldown_steps

    def __call__(self, step):
        """Returns the learning rate of the update after `step` updates."""
        left = self.total_steps - keras.ops.cast(step, "float32")
        return self.schedule(step) * keras.ops.clip(left / self.cooldown_steps, 0.0, 1.0)


@keras.saving.register_keras_serializable(package="convzoo")
class ReciprocalSqrt(keras.optimizers.schedules.LearningRateSchedule):
    """The peak divided by sqrt(1 + steps after the warm-up / timescale), as `rsqrt` of big_vision.

    Args:
        peak: The learning rate until the end of the warm-up.
        timescale: Number of steps in which the rate falls to peak / sqrt(2).
        warmup_steps: Number of steps of the warm-up.
    """

    def __init__(self, peak, timescale, warmup_steps=0):
        super().__init__()
        self.peak, self.timescale, self.warmup_steps = peak, timescale, warmup_steps

    def __call__(self, step):
        """Returns the learning rate of the update after `step` updates."""
        decayed = keras.ops.maximum(keras.ops.cast(step, "float32") - self.warmup_steps, 0.0)
        return self.peak * keras.ops.rsqrt(1.0 + decayed / self.timescale)

    def get_config(self):
        return {"peak": self.peak, "timescale": self.timescale, "warmup_steps": self.warmup_steps}


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
    warmup_steps = round(schedule.warmup_epochs * steps_per_epoch)
    cooldown_steps = round(schedule.cooldown_epochs * steps_per_epoch)
    if schedule.name == "cosine":
        rate = schedules.CosineDecay(peak, max(1, total_steps), alpha=schedule.end_factor)
    elif schedule.name == "cosine_restarts":
        cycle_steps = max(1, round(schedule.cycle_epochs * steps_per_epoch))
        rate = schedules.CosineDecayRestarts(peak, cycle_steps, t_mul=1.0, alpha=schedule.end_factor)
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
    elif schedule.name == "rsqrt":
        rate = ReciprocalSqrt(peak, max(1.0, schedule.timescale_epochs * steps_per_epoch), warmup_steps)
    else:
        rate = schedules.PiecewiseConstantDecay([0], [peak, peak])
    if warmup_steps:
        rate = WarmUp(rate, peak, warmup_steps)
    return CoolDown(rate, total_steps, cooldown_steps) if cooldown_steps else rate
