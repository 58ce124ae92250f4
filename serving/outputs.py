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
    """Returns the outputs [images, ...] of a function that is called with batches of 8 images or fewer.

    Raises:
        ValueError: There are no images.
    """
    if not len(images):
        raise ValueError("images is empty; pass at least one image")
    batches = [predict(batch) for batch in split_batches(images)]
    return {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}


def split_batches(images: np.ndarray) -> list[np.ndarray]:
    """Returns the images in batches of 8 or fewer."""
    return [images[start : start + _BATCH_SIZE] for start in range(0, len(images), _BATCH_SIZE)]


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


def reference_function(
    model: keras.Model, task: Task | None, input_settings: dict[str, Any]
) -> Callable[[np.ndarray], dict[str, Any]]:
    """Returns the function that an exported model should compute, by Keras with the layers' current implementations.

    It maps uint8 images [batch, height, width, 3] to outputs by name.

    Args:
        model: Network from normalized float images to outputs.
        task: Task whose `image_outputs` are returned; None for the outputs of the network itself.
        input_settings: Arguments of `data.eval_transform`.
    """

    def predict(batch):
        inputs = data.eval_transform(batch, **input_settings)
        if task is None:
            return named_outputs(model(inputs, training=False))
        return image_outputs(task, task.predict(model, inputs), batch.shape[1:3])

    return predict
