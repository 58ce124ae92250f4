"""Outputs of networks by name, for a batch of images."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from convzoo import data
from convzoo.tasks import Task

_BATCH_SIZE = 8


def in_batches(predict: Callable[[np.ndarray], dict[str, Any]], images: np.ndarray) -> dict[str, np.ndarray]:
    """Returns the outputs [images, ...] of a function that is called with batches of 8 images or fewer."""
    starts = range(0, len(images), _BATCH_SIZE)
    batches = [predict(images[start : start + _BATCH_SIZE]) for start in starts]
    return {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}


def named_outputs(outputs) -> dict[str, Any]:
    """Returns the outputs of a Keras network by name; a single one is called "logits"."""
    return dict(outputs) if isinstance(outputs, dict) else {"logits": outputs}


def has_raw_outputs(task: Task) -> bool:
    """Returns whether the exported model of a task has outputs without post-processing too."""
    return type(task).export_raw_outputs is not Task.export_raw_outputs


def image_outputs(task: Task, outputs, size: tuple[int, int]) -> dict[str, tf.Tensor]:
    """Returns the outputs of an exported model for images of one (height, width), without post-processing if any."""
    compute = task.export_raw_outputs if has_raw_outputs(task) else task.export_outputs
    return compute(outputs, tf.constant([size], tf.int32))


def reference_outputs(
    model: keras.Model, task: Task | None, images: np.ndarray, input_settings: dict[str, Any]
) -> dict[str, np.ndarray]:
    """Returns what an exported model should return, computed by Keras with the layers' current implementations.

    Args:
        model: Network from normalized float images to outputs.
        task: Task whose `image_outputs` are returned; None for the outputs of the network itself.
        images: uint8 [images, height, width, 3].
        input_settings: Arguments of `data.eval_transform`.
    """

    def predict(batch):
        inputs = data.eval_transform(batch, **input_settings)
        if task is None:
            return named_outputs(model(inputs, training=False))
        return image_outputs(task, task.predict(model, inputs), images.shape[1:3])

    return in_batches(predict, images)
