"""Tasks: what a network predicts, how its predictions are scored, and what an exported model returns."""

import dataclasses

import ml_collections

from convzoo.tasks.classification import Classification
from convzoo.tasks.detection import Detection
from convzoo.tasks.segmentation import Segmentation
from convzoo.tasks.task import Task
from convzoo.tasks.verification import Verification

__all__ = ["TASKS", "Classification", "Detection", "Segmentation", "Task", "Verification", "get_task"]

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
    if config.task == "classification":
        return task
    names = {field.name for field in dataclasses.fields(task)}
    settings = {name: value for name, value in config[config.task].to_dict().items() if name in names}
    return dataclasses.replace(
        task, **{name: tuple(value) if isinstance(value, list) else value for name, value in settings.items()}
    )
