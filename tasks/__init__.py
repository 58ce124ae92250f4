"""Tasks: what a network predicts, how its predictions are scored, and what an exported model returns."""

import ml_collections

from convzoo.tasks.classification import Classification
from convzoo.tasks.segmentation import Segmentation
from convzoo.tasks.task import Task

__all__ = ["TASKS", "Classification", "Segmentation", "Task", "get_task"]

TASKS: dict[str, Task] = {"classification": Classification(), "segmentation": Segmentation()}


def get_task(config: ml_collections.ConfigDict) -> Task:
    """Returns the task that `config.task` names.

    Example:
        >>> from convzoo.configs import base
        >>> get_task(base.get_config()).best_metric
        'top1'
    """
    return TASKS[config.task]
