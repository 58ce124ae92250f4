"""What a training run updates: the model, its optimizer and its moving average."""

import dataclasses

import keras
import ml_collections
import tensorflow as tf

from convzoo.training import experiment, fine_tuning
from convzoo.training.batch_norm import synchronize_batch_norm
from convzoo.training.checkpoints import model_variables, prefixed
from convzoo.training.ema import MovingAverage
from convzoo.training.optimizers import make_optimizer, set_weight_decay
from convzoo.training.remat import rematerialize

# Distance between the seeds of two replicas; any odd number keeps their random streams apart.
_SEED_STRIDE = 7919


@dataclasses.dataclass(frozen=True)
class TrainState:
    """The variables of a training run. `train_step` updates them in place.

    Attributes:
        model: The network, from float images [batch, height, width, channels] to the task's outputs.
        optimizer: The built optimizer; its `iterations` count the steps of the run. A `LossScaleOptimizer` contains it
            under mixed_float16.
        ema: Moving average of weights and BatchNorm statistics, or None.
        statistics_differ: True if BatchNorm moving statistics differ between replicas and must be averaged before
            evaluation.
        frozen: Names of the frozen layers and their numbers of parameters.
        log: Messages about how the weights were initialized.
    """

    model: keras.Model
    optimizer: keras.optimizers.Optimizer
    ema: MovingAverage | None = None
    statistics_differ: bool = False
    frozen: dict[str, int] = dataclasses.field(default_factory=dict)
    log: tuple[str, ...] = ()

    def variables(self) -> dict[str, tf.Variable]:
        """Returns all variables of a checkpoint by name."""
        # A LossScaleOptimizer has an unused step counter, listed before that of the optimizer in it.
        optimizer = {variable.path.split("/", 1)[1]: variable.value for variable in self.optimizer.variables}
        return {
            **prefixed("model", model_variables(self.model)),
            **prefixed("optimizer", optimizer),
            **prefixed("ema", self.ema.variables if self.ema else {}),
        }

    def eval_weights(self) -> dict[str, tf.Variable]:
        """Returns the weights to evaluate by path: the moving average if there is one."""
        return self.ema.variables if self.ema else {weight.path: weight.value for weight in self.model.weights}


def build_train_state(
    config: ml_collections.ConfigDict,
    num_classes: int,
    schedule: keras.optimizers.schedules.LearningRateSchedule,
    num_replicas: int = 1,
    initialization: fine_tuning.Initialization | None = None,
) -> TrainState:
    """Builds model, optimizer and moving average. Must be called in the strategy's scope.

    Args:
        config: The config of the experiment.
        num_classes: Number of classes of the data.
        schedule: Learning rate by step.
        num_replicas: Number of replicas that share a batch.
        initialization: Pretrained weights to start from; None for random initialization.
    """
    model = experiment.build_model(config, num_classes)
    statistics_differ = synchronize_batch_norm(model, num_replicas, config.batch_norm_replicas)
    if config.remat:
        rematerialize(model)
    log = []
    if initialization:  # before the moving average is created, because it starts from the weights
        log.append(fine_tuning.load(initialization, model, num_classes, config.init.new_classifier))
    frozen = fine_tuning.freeze(model, config.init.freeze or ())
    optimizer = make_optimizer(config, schedule)
    optimizer.build(model.trainable_weights)
    fine_tuning.scale_learning_rates(optimizer, model, config)
    set_weight_decay(optimizer, model, config)
    if config.precision == "mixed_float16":
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer, name="loss_scale")
        optimizer.build(model.trainable_weights)
    if summary := fine_tuning.describe(model, frozen, config.init.backbone_lr_multiplier):
        log.append(summary)
    ema = MovingAverage(model, config.ema_decay) if config.ema_decay else None
    return TrainState(model, optimizer, ema, statistics_differ, frozen, tuple(log))


def decorrelate_replica_seeds(model: keras.Model, strategy: tf.distribute.Strategy) -> None:
    """Gives each replica its own random stream, so that replicas drop different units and branches.

    Keras gives all replicas the same generator state, and a checkpoint contains the state of the first replica. Call
    this once after weights were created or restored. The state of the first replica does not change.
    """
    states = [
        layer.seed_generator.state.value
        for layer in model.layers
        if isinstance(getattr(layer, "seed_generator", None), keras.random.SeedGenerator)
    ]
    if strategy.num_replicas_in_sync == 1 or not states:
        return

    def shift_seeds():
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        for state in states:
            # A state is [seed, number of draws]; the number of draws stays equal on all replicas.
            state.assign(state.read_value() + tf.cast(tf.stack([replica * _SEED_STRIDE, 0]), state.dtype))

    tf.function(lambda: strategy.run(shift_seeds))()
