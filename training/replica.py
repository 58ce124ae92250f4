"""What each replica trains: the network, its optimiser, the moving average, and one step of them."""

import dataclasses

import keras
import ml_collections

from convzoo.training import experiment, fine_tuning, tasks
from convzoo.training.batch_norm import normalise_together
from convzoo.training.ema import MovingAverage
from convzoo.training.optimizers import make_optimizer
from convzoo.training.step import TrainStep


@dataclasses.dataclass(frozen=True)
class Replica:
    """A training without its data.

    Attributes:
        model: The network, from float images [batch, height, width, channels] to logits.
        optimizer: Its built optimiser.
        average: Its moving average, or None.
        step: One training step on a replica's part of a batch.
        statistics_differ: Whether the replicas' statistics of batch normalisation do.
        frozen: Layers that keep their weights.
        loaded: What was taken from `start`, a line; "" for nothing.
    """

    model: keras.Model
    optimizer: keras.optimizers.Optimizer
    average: MovingAverage | None
    step: TrainStep
    statistics_differ: bool
    frozen: list[str]
    loaded: str


def build_replica(
    config: ml_collections.ConfigDict,
    num_classes: int,
    schedule: keras.optimizers.schedules.LearningRateSchedule,
    num_replicas: int = 1,
    start: fine_tuning.Start | None = None,
) -> Replica:
    """Builds what the experiment trains. Call it in the strategy's scope.

    Args:
        config: The experiment.
        num_classes: Of its data.
        schedule: The learning rate by step.
        num_replicas: Replicas that share each batch.
        start: What the weights start from; None for chance.
    """
    model = experiment.build_model(config, num_classes)
    differ = normalise_together(model, num_replicas, config.batch_norm_replicas)
    # Before the moving average is made, which starts at what the weights are.
    loaded = fine_tuning.load(start, model, num_classes, new_head=config.init.new_head) if start else ""
    frozen = fine_tuning.freeze(model, config.init.freeze)
    optimizer = make_optimizer(config, schedule)
    optimizer.build(model.trainable_weights)
    body = [weight for weight in model.trainable_weights if not fine_tuning.is_head(weight)]
    optimizer.scale_rate(body, config.init.body_rate)
    average = MovingAverage(model, config.ema_decay) if config.ema_decay else None
    step = TrainStep(
        model,
        optimizer,
        average,
        batch_size=config.batch_size,
        num_replicas=num_replicas,
        task=tasks.of(config),
        label_smoothing=config.label_smoothing,
        weight_decay=config.weight_decay,
        parts=config.gradient_accumulation,
        clip_norm=config.clip_norm,
    )
    return Replica(model, optimizer, average, step, differ, frozen, loaded)
