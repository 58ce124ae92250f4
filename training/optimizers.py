"""Optimizers by name, with a learning rate and a weight decay for each weight."""

import math
import re

import keras
import ml_collections
from keras import ops

from convzoo.configs.fields import OPTIMIZER_DEFAULTS
from convzoo.models.weights import CLASSIFIER, HEAD_PREFIXES
from convzoo.training.keras_internals import (
    adam_moments,
    optimizer_variable_key,
    rmsprop_mean_squares,
    set_adam_moments,
)
from convzoo.training.weight_decay import weight_decays, weight_kinds

# Quintic polynomial of Muon's Newton-Schulz iteration, from github.com/KellerJordan/Muon.
_NEWTON_SCHULZ, _NEWTON_SCHULZ_STEPS = (3.4445, -4.7750, 2.0315), 5
_MUON_RMS = 0.2  # root mean square of an update of AdamW, arXiv 2502.16982, section 2.2


class WeightSettings:
    """Mixin for Keras optimizers: a learning-rate multiplier and a weight decay for each variable.

    Scaling the gradient instead would have no effect with RMSProp, which divides by the gradient's magnitude.
    """

    _multipliers = _decays = None

    def scale_learning_rate(self, variables, multiplier: float) -> None:
        """Multiplies the learning rate of `variables`, for which the optimizer is built, by `multiplier`."""
        multipliers = dict(self._multipliers or {})
        for variable in variables:
            key = optimizer_variable_key(self, variable)  # an update receives the copy of one replica
            multipliers[key] = multipliers.get(key, 1.0) * multiplier
        self._multipliers = multipliers

    def decay_weights(self, variables, weight_decay: float) -> None:
        """Makes each update decay `variables`: by default by learning rate * weight decay, apart from the gradient."""
        keys = (optimizer_variable_key(self, variable) for variable in variables)
        self._decays = {**(self._decays or {}), **dict.fromkeys(keys, weight_decay)}

    def update_step(self, gradient, variable, learning_rate):
        """Updates one variable; Keras calls this."""
        multiplier = (self._multipliers or {}).get(optimizer_variable_key(self, variable), 1.0)
        self.decayed_update(
            ops.cast(gradient, variable.dtype),
            variable,
            ops.cast(learning_rate if multiplier == 1.0 else learning_rate * multiplier, variable.dtype),
            (self._decays or {}).get(optimizer_variable_key(self, variable), 0.0),
        )

    def decayed_update(self, gradient, variable, learning_rate, weight_decay: float) -> None:
        """Updates one variable with its own learning rate and weight decay."""
        if weight_decay:
            self.assign_sub(variable, variable * (learning_rate * weight_decay))
        super().update_step(gradient, variable, learning_rate)


@keras.saving.register_keras_serializable(package="convzoo")
class SGD(WeightSettings, keras.optimizers.SGD):
    """Keras's SGD with momentum, and settings for each weight."""


@keras.saving.register_keras_serializable(package="convzoo")
class AdamW(WeightSettings, keras.optimizers.Adam):
    """Adam, and decoupled weight decay (arXiv 1711.05101) for each weight."""


@keras.saving.register_keras_serializable(package="convzoo")
class Lion(WeightSettings, keras.optimizers.Lion):
    """Keras's Lion (arXiv 2302.06675), and settings for each weight."""


@keras.saving.register_keras_serializable(package="convzoo")
class RMSPropTF1(WeightSettings, keras.optimizers.RMSprop):
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
            mean_square.assign(ops.ones(mean_square.shape, mean_square.dtype))


class _LayerAdaptation(WeightSettings):
    """Mixin: trust ratios from the norms of a variable and its update, except for excluded variables."""

    _not_adapted = ()

    def exclude_from_layer_adaptation(self, variables) -> None:
        """Gives `variables`, for which the optimizer is built, a trust ratio of 1."""
        self._not_adapted = tuple(optimizer_variable_key(self, variable) for variable in variables)

    def trust_ratio(self, variable, length):
        """Returns |variable| / length, and 1 where one of them is 0 or the variable is excluded."""
        if optimizer_variable_key(self, variable) in self._not_adapted:
            return 1.0
        norm = _norm(variable)
        is_positive = ops.logical_and(norm > 0, length > 0)
        return ops.where(is_positive, norm / ops.where(is_positive, length, 1.0), 1.0)


@keras.saving.register_keras_serializable(package="convzoo")
class LARS(_LayerAdaptation, keras.optimizers.SGD):
    """Layer-wise adaptive rate scaling (arXiv 1708.03888, algorithm 1).

        rate      = trust_coefficient * |variable| / (|gradient| + weight_decay * |variable|)
        velocity  = momentum * velocity + learning_rate * rate * (gradient + weight_decay * variable)
        variable -= velocity

    `rate` is 1 for excluded variables and where a norm is 0.

    Example:
        >>> LARS(10.0, momentum=0.9).trust_coefficient
        0.001
    """

    def __init__(self, learning_rate=0.1, momentum=0.9, trust_coefficient=1e-3, **settings):
        super().__init__(learning_rate, momentum=momentum, **settings)
        self.trust_coefficient = trust_coefficient

    def decayed_update(self, gradient, variable, learning_rate, weight_decay):
        """Updates one variable."""
        length = _norm(gradient) + weight_decay * _norm(variable)
        rate = self.trust_ratio(variable, length / self.trust_coefficient)
        decayed = gradient + weight_decay * variable
        super().decayed_update(decayed, variable, learning_rate * rate, 0.0)

    def get_config(self):
        return {**super().get_config(), "trust_coefficient": self.trust_coefficient}


@keras.saving.register_keras_serializable(package="convzoo")
class LAMB(_LayerAdaptation, keras.optimizers.Adam):
    """LAMB (arXiv 1904.00962, algorithm 2): Adam with a trust ratio for each variable.

        update    = corrected_mean / (sqrt(corrected_mean_square) + epsilon) + weight_decay * variable
        variable -= learning_rate * |variable| / |update| * update

    Keras's Lamb decays the weights outside of the ratio, and applies the ratio to all variables. Here it is 1 for
    excluded variables and where a norm is 0.
    """

    def decayed_update(self, gradient, variable, learning_rate, weight_decay):
        """Updates one variable."""
        mean, mean_square = adam_moments(self, variable)
        self.assign(mean, self.beta_1 * mean + (1 - self.beta_1) * gradient)
        self.assign(mean_square, self.beta_2 * mean_square + (1 - self.beta_2) * ops.square(gradient))
        step = ops.cast(self.iterations + 1, variable.dtype)
        corrected_mean = mean / (1 - ops.power(self.beta_1, step))
        corrected_square = mean_square / (1 - ops.power(self.beta_2, step))
        update = corrected_mean / (ops.sqrt(corrected_square) + self.epsilon) + weight_decay * variable
        self.assign_sub(variable, learning_rate * self.trust_ratio(variable, _norm(update)) * update)


@keras.saving.register_keras_serializable(package="convzoo")
class Muon(AdamW):
    """Muon (github.com/KellerJordan/Muon) for matrices and kernels of convolutions, AdamW for all other variables.

    The update is the momentum with all singular values near 1, scaled to the root mean square of AdamW's updates
    (arXiv 2502.16982), so that learning rate and weight decay of AdamW apply. A kernel [height, width, inputs, filters]
    is one matrix [height * width * inputs, filters], and one of several experts is a matrix for each.

    Muon updates the variables called "kernel" (also "kernel_0", "routing_kernel") with more than one filter. Keras's
    Muon updates only matrices, and the only matrix of most convolutional networks is their classifier.

    Args:
        learning_rate: A number or a schedule.
        momentum: Decay of the momentum of Muon.
        nesterov: Whether Muon uses Nesterov momentum.
        exclude_layers: Regular expressions of the beginnings of paths; AdamW updates the matching variables.
        **settings: Arguments of Adam.

    Example:
        >>> Muon(0.02, exclude_layers=("head_",)).momentum
        0.95
    """

    def __init__(self, learning_rate=1e-3, momentum=0.95, nesterov=True, exclude_layers=(), **settings):
        super().__init__(learning_rate, **settings)
        self.momentum, self.nesterov, self.exclude_layers = momentum, nesterov, tuple(exclude_layers)

    def build(self, variables):
        """Creates the momentum of all variables, and the mean square of those that AdamW updates."""
        if self.built:
            return
        super(keras.optimizers.Adam, self).build(variables)
        means = [self.add_variable_from_reference(variable, name="momentum") for variable in variables]
        mean_squares = [
            None if self.uses_muon(variable) else self.add_variable_from_reference(variable, name="velocity")
            for variable in variables
        ]
        set_adam_moments(self, means, mean_squares)

    def uses_muon(self, variable: keras.Variable) -> bool:
        """Returns whether Muon updates `variable`, and not AdamW."""
        is_kernel = "kernel" in variable.path.split("/")[-1] and "depthwise" not in variable.path.split("/")[-1]
        is_matrix = len(variable.shape) >= 2 and variable.shape[-1] > 1
        return is_kernel and is_matrix and not any(re.match(prefix, variable.path) for prefix in self.exclude_layers)

    def decayed_update(self, gradient, variable, learning_rate, weight_decay):
        """Updates one variable."""
        momentum, mean_square = adam_moments(self, variable)
        if mean_square is not None:
            super().decayed_update(gradient, variable, learning_rate, weight_decay)
            return
        self.assign(momentum, self.momentum * momentum + gradient)
        direction = gradient + self.momentum * momentum if self.nesterov else momentum
        experts = tuple(variable.shape[:1]) if len(variable.shape) in (3, 5) else ()
        matrices = (*experts, math.prod(variable.shape[len(experts) : -1]), variable.shape[-1])
        update = _orthogonalize(ops.reshape(direction, matrices)) * _MUON_RMS * math.sqrt(max(matrices[-2:]))
        decayed = variable * (1 - learning_rate * weight_decay)
        self.assign(variable, decayed - learning_rate * ops.reshape(update, variable.shape))

    def get_config(self):
        own = {name: getattr(self, name) for name in ("momentum", "nesterov", "exclude_layers")}
        return {**super().get_config(), **own}


def _norm(tensor):
    return ops.sqrt(ops.sum(ops.square(tensor)))


def _orthogonalize(matrices):
    """Returns matrices [..., rows, columns] with the same singular vectors and singular values from 0.7 to 1.2."""
    a, b, c = _NEWTON_SCHULZ
    is_tall = matrices.shape[-2] > matrices.shape[-1]
    x = ops.swapaxes(matrices, -1, -2) if is_tall else matrices
    x = x / (ops.sqrt(ops.sum(ops.square(x), axis=(-2, -1), keepdims=True)) + 1e-7)
    for _ in range(_NEWTON_SCHULZ_STEPS):
        gram = ops.matmul(x, ops.swapaxes(x, -1, -2))
        x = a * x + ops.matmul(b * gram + c * ops.matmul(gram, gram), x)
    return ops.swapaxes(x, -1, -2) if is_tall else x


_CLASSES = {
    "rmsprop": RMSPropTF1,
    "sgd": SGD,
    "adamw": AdamW,
    "lamb": LAMB,
    "lars": LARS,
    "lion": Lion,
    "muon": Muon,
}


def make_optimizer(
    config: ml_collections.ConfigDict, schedule: keras.optimizers.schedules.LearningRateSchedule
) -> keras.optimizers.Optimizer:
    """Returns the optimizer of `config.optimizer` with the learning rate `schedule`."""
    name = config.optimizer.name
    settings = {
        field: default if config.optimizer[field] is None else config.optimizer[field]
        for field, default in OPTIMIZER_DEFAULTS[name].items()
        if field != "decoupled_weight_decay"
    }
    if name == "muon":
        settings["exclude_layers"] = (CLASSIFIER, *HEAD_PREFIXES.values())
    return _CLASSES[name](schedule, **settings, name="optimizer")


def decays_weights(config: ml_collections.ConfigDict) -> bool:
    """Returns True if the optimizer decays the weights, False if the training step adds the decay to the gradients."""
    optimizer = config.optimizer
    return "decoupled_weight_decay" not in OPTIMIZER_DEFAULTS[optimizer.name] or bool(optimizer.decoupled_weight_decay)


def set_weight_decay(
    optimizer: keras.optimizers.Optimizer, model: keras.Model, config: ml_collections.ConfigDict
) -> None:
    """Sets the weight decay of each weight in an optimizer that is built for a model.

    Biases and BatchNorm have no layer adaptation in LARS and LAMB.

    Raises:
        ConfigError: A pattern of `config.weight_decay_multipliers` matches no trainable weight.
    """
    decays = weight_decays(model, config.weight_decay, config.weight_decay_on, config.weight_decay_multipliers)
    if decays_weights(config):
        for weight in model.trainable_weights:
            optimizer.decay_weights([weight], decays[weight.path])
    if isinstance(optimizer, _LayerAdaptation):
        kinds = weight_kinds(model)
        optimizer.exclude_from_layer_adaptation(
            [weight for weight in model.trainable_weights if kinds[weight.path] != "kernels"]
        )
