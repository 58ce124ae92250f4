"""Tasks: what a network predicts, how its predictions are scored, and what an exported model returns."""

import dataclasses

import ml_collections

from convzoo import data
from convzoo.errors import ConfigError
from convzoo.tasks.classification import Classification
from convzoo.tasks.detailed_classification import DetailedClassification
from convzoo.tasks.detection import Detection
from convzoo.tasks.real_labels import read_real_labels
from convzoo.tasks.segmentation import Segmentation
from convzoo.tasks.task import Task
from convzoo.tasks.verification import Verification

__all__ = [
    "TASKS",
    "Classification",
    "DetailedClassification",
    "Detection",
    "Segmentation",
    "Task",
    "Verification",
    "get_eval_task",
    "get_task",
]

# With default settings.
TASKS: dict[str, Task] = {
    "classification": Classification(),
    "detection": Detection(),
    "segmentation": Segmentation(),
    "verification": Verification(),
}


def get_task(config: ml_collections.ConfigDict) -> Task:
    """Returns the task that `config.task` names, with the settings of the config.

    Example:
        >>> from convzoo.configs import base
        >>> get_task(base.get_config()).best_metric
        'top1'
    """
    task = TASKS[config.task]
    names = {field.name for field in dataclasses.fields(task)}
    settings = {name: value for name, value in config[config.task].to_dict().items() if name in names}
    return dataclasses.replace(
        task, **{name: tuple(value) if isinstance(value, list) else value for name, value in settings.items()}
    )


def get_eval_task(
    config: ml_collections.ConfigDict,
    source: data.Source,
    split: str,
    *,
    real_labels: str | None = None,
    predictions: str | None = None,
    top_losses: int | None = None,
) -> Task:
    """Returns the task with what eval.py computes and writes beyond the metrics of training.

    Args:
        config: The config of the run.
        source, split: What is evaluated.
        real_labels: File of acceptable labels, see `read_real_labels`; None without.
        predictions, top_losses: See `DetailedClassification`.

    Raises:
        ConfigError: An option applies to another task, or the file does not fit the split.
    """
    if config.task == "classification":
        lists = None if real_labels is None else read_real_labels(real_labels, source, split)
        return DetailedClassification(get_task(config).eval_top_k, lists, predictions, top_losses or 0)
    for name, value in (("real_labels", real_labels), ("predictions", predictions), ("top_losses", top_losses)):
        if value is not None:
            raise ConfigError(f"--{name}={value} applies to classification, not to {config.task}; leave it out")
    return get_task(config)
