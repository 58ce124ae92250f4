"""Tasks: what a network predicts, how its predictions are scored, and what an exported model returns."""

import dataclasses

import ml_collections

from convzoo.tasks.classification import Classification
from convzoo.tasks.detection import Detection
from convzoo.tasks.segmentation import Segmentation
from convzoo.tasks.task import Task

__all__ = ["TASKS", "Classification", "Detection", "Segmentation", "Task", "get_task"]

# With default settings.
TASKS: dict[str, Task] = {
    "classification": Classification(),
    "detection": Detection(),
    "segmentation": Segmentation(),
}


def get_task(config: ml_collections.ConfigDict) -> Task:
    """Returns the task that `config.task` names, with the settings of the config.

    Example:
        >>> from convzoo.configs import base
        >>> get_task(base.get_config()).best_metric
        'top1'
    """
    task = TASKS[config.task]
    return dataclasses.replace(task, **config.detection.to_dict()) if isinstance(task, Detection) else task
