"""Optimisers and learning-rate schedules as the papers' code has them."""

import keras
import ml_collections


class _RateFactors:
    """For a Keras optimiser: a learning rate of their own for some variables.

    The gradient cannot carry the factor, because RMSProp divides its size out again.
    """

    _rate_factors = None

    def scale_rate(self, variables, factor: float) -> None:
        """Multiplies the learning rate of `variables`, which the optimiser was built for, by `factor`."""
        # By key, not by variable: an update sees each replica's own copy.
        scaled = {self._var_key(variable): factor for variable in variables}
        self._rate_factors = {**(self._rate_factors or {}), **scaled}

    def update_step(self, gradient, variable, learning_rate):
        """Updates one variable; Keras calls it."""
        factor = (self._rate_factors or {}).get(self._var_key(variable), 1.0)
        super().update_step(gradient, variable, learning_rate if factor == 1.0 else learning_rate * factor)


@keras.saving.register_keras_serializable(package="convzoo")
class SGD(_RateFactors, keras.optimizers.SGD):
    """Keras's gradient descent with momentum, and `scale_rate`."""


@keras.saving.register_keras_serializable(package="convzoo")
class RMSPropTF1(_RateFactors, keras.optimizers.RMSprop):
    """RMSProp as TensorFlow 1 computed it, which EfficientNet and CondConv were trained with.

    The mean square starts at 1, not 0, so that the first steps are small. The rest Keras has too: epsilon is inside
    the square root, and the learning rate is folded into the momentum accumulator:

        mean_square = rho * mean_square + (1 - rho) * gradient**2
        momentum    = momentum * momentum_factor + learning_rate * gradient / sqrt(mean_square + epsilon)
        variable   -= momentum
    """

    def build(self, variables):
        """Makes the slots of `variables`, the mean squares at 1."""
        if self.built:
            return
        super().build(variables)
        for velocity in self._velocities:
            velocity.assign(keras.ops.ones(velocity.shape, velocity.dtype))


@keras.saving.register_keras_serializable(package="convzoo")
class WarmUp(keras.optimizers.schedules.LearningRateSchedule):
    """A schedule whose first steps rise linearly from 0 towards its peak, as in the EfficientNet code.

    The warm-up is not subtracted: after it the schedule is where it would have been without one, which for a schedule
    that falls from step 0 is a little below the peak.

    Args:
        schedule: The schedule to warm up.
        peak: The rate that the rise would reach at `warmup_steps`.
        warmup_steps: Steps until the schedule takes over.
    """

    def __init__(self, schedule, peak, warmup_steps):
        super().__init__()
        self.schedule, self.peak, self.warmup_steps = schedule, peak, warmup_steps

    def __call__(self, step):
        """The rate of the update that follows `step` updates."""
        step = keras.ops.cast(step, "float32")
        warming = self.peak * step / self.warmup_steps
        return keras.ops.where(step < self.warmup_steps, warming, self.schedule(step))

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
    """The learning rate by step, from `config.optimizer.learning_rate` and `config.schedule`.

    Args:
        config: The experiment.
        total_steps: Steps of the whole training.
        steps_per_epoch: Steps that show as many examples as the training split has.
    """
    peak, schedule = config.optimizer.learning_rate, config.schedule
    if schedule.name == "cosine":
        rate = keras.optimizers.schedules.CosineDecay(peak, max(1, total_steps), alpha=schedule.end_factor)
    elif schedule.name == "linear":
        rate = keras.optimizers.schedules.PolynomialDecay(
            peak, max(1, total_steps), peak * schedule.end_factor, power=1
        )
    elif schedule.name == "exponential":
        decay_steps = max(1, round(schedule.decay_epochs * steps_per_epoch))
        rate = keras.optimizers.schedules.ExponentialDecay(peak, decay_steps, schedule.decay_rate, staircase=True)
    elif schedule.name == "step":
        # Keras keeps a rate up to its boundary's step, the boundary among them.
        last = [round(epoch * steps_per_epoch) - 1 for epoch in schedule.milestones]
        rates = [peak * schedule.decay_rate**fallen for fallen in range(len(last) + 1)]
        rate = keras.optimizers.schedules.PiecewiseConstantDecay(last, rates)
    else:
        rate = keras.optimizers.schedules.PiecewiseConstantDecay([0], [peak, peak])
    warmup_steps = round(schedule.warmup_epochs * steps_per_epoch)
    return WarmUp(rate, peak, warmup_steps) if warmup_steps else rate


def make_optimizer(
    config: ml_collections.ConfigDict, schedule: keras.optimizers.schedules.LearningRateSchedule
) -> keras.optimizers.Optimizer:
    """The optimiser of `config.optimizer`, with `schedule` for its rate. Its step count is the training's."""
    optimizer = config.optimizer
    if optimizer.name == "sgd":
        return SGD(schedule, momentum=optimizer.momentum, nesterov=optimizer.nesterov, name="optimizer")
    return RMSPropTF1(
        schedule, rho=optimizer.rho, momentum=optimizer.momentum, epsilon=optimizer.epsilon, name="optimizer"
    )
