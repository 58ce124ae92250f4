"""How much memory an experiment needs at least, before anything is allocated."""

import math
import os
from collections.abc import Iterator
from typing import Any

import keras
import ml_collections
import numpy as np

from convzoo.errors import ConfigError
from convzoo.training import experiment

_FLOAT_BYTES = 4
# Below these no network of the zoo comes near the memory of a machine, and building it twice would only cost time.
_USUAL_SIZE, _USUAL_BATCH, _USUAL_CLASSES, _USUAL_NUMBER, _USUAL_BOXES = 1024, 4096, 100_000, 1024, 512


def check_memory(
    config: ml_collections.ConfigDict,
    num_classes: int,
    *,
    max_boxes: int | None = None,
    eval_batch_size: int | None = None,
    trains: bool = False,
) -> None:
    """Raises ConfigError if the experiment cannot fit into the memory of this machine, whose CPU computes.

    Call it before anything is built: it may clear Keras's session, with the names and random seeds in it.

    The estimate is a lower bound. It counts weights and what the optimizer keeps for each, one batch of images, the
    overlaps of its boxes with all anchors, and in training the outputs of the layers with weights, which the backward
    pass needs.

    Args:
        config: The experiment.
        num_classes: Number of classes of the network.
        max_boxes: Largest number of boxes of an image; None without boxes.
        eval_batch_size: Examples of an evaluation step; None without evaluation.
        trains: Whether the network is trained.
    """
    size, max_boxes = experiment.input_settings(config)["image_size"][0], max_boxes or 0
    batch_size = config.batch_size if trains else 0
    numbers = [*_numbers(config.model.overrides.to_dict()), *_numbers(config.model.operator.to_dict())]
    numbers += [*_numbers(config.detector.to_dict()), *_numbers(config.segmentation.to_dict()), 0]
    is_usual = max(numbers) <= _USUAL_NUMBER and size <= _USUAL_SIZE and num_classes <= _USUAL_CLASSES
    if is_usual and max_boxes <= _USUAL_BOXES and max(batch_size, eval_batch_size or 0) <= _USUAL_BATCH:
        return
    # Segmentation may evaluate at another size than it trains at, in a network for images of any size.
    eval_pixels = size**2
    if config.task == "segmentation":
        eval_pixels = (
            math.prod(config.segmentation.eval_size or (size, size)) * max(config.segmentation.eval_scales) ** 2
        )
    fixed_size = config.copy_and_resolve_references()
    with fixed_size.unlocked():
        fixed_size.data.scale_jitter, fixed_size.segmentation.eval_scales = None, (1.0,)
    with keras.StatelessScope(initialize_variables=False):  # weights have shapes, but neither values nor memory
        model = experiment.build_model(fixed_size, num_classes)
    keras.backend.clear_session()  # otherwise the next such scope would give them values
    num_weights = sum(int(np.prod(weight.shape)) for weight in model.weights)
    outputs = [np.prod(layer.output.shape[1:], dtype=float) for layer in model.layers if layer.weights]
    copies = 3 if trains else 1  # in training also gradients and momenta
    copies += bool(trains and config.ema_decay) + bool(trains and eval_batch_size)
    step_size = batch_size / config.gradient_accumulation_steps
    largest_step = max(step_size, eval_batch_size or 0)
    num_anchors = model.output["anchors"].shape[1] if max_boxes else 0
    parts = {
        f"{num_weights:,} weights{' with optimizer' if trains else ''}": num_weights * copies * _FLOAT_BYTES,
        f"batches of {max(batch_size, eval_batch_size or 0):,} images of {size} x {size} pixels": _FLOAT_BYTES
        * max(batch_size, eval_batch_size or 0)
        * size**2
        * 3,
        f"{(eval_batch_size or 0):,} images of {eval_pixels:,.0f} pixels in evaluation": _FLOAT_BYTES
        * (eval_batch_size or 0)
        * (eval_pixels - size**2)
        * (3 + num_classes)
        if eval_pixels > size**2
        else 0,
        f"overlaps of {num_anchors:,} anchors with up to {max_boxes:,} boxes of an image": _FLOAT_BYTES
        * largest_step
        * num_anchors
        * max_boxes,
        "the layers' outputs": max(
            # With rematerialization only those between blocks are kept.
            (0 if config.remat else sum(outputs)) * step_size * (_FLOAT_BYTES if config.precision == "float32" else 2),
            max(outputs, default=0) * (eval_batch_size or 0) * _FLOAT_BYTES * eval_pixels / size**2,
        ),
    }
    needed, available = sum(parts.values()), _memory_bytes()
    if needed > available:
        listed = ", ".join(f"{amount / 1e9:,.1f} GB for {what}" for what, amount in parts.items() if amount)
        raise ConfigError(
            f"{config.model.name} needs at least {needed / 1e9:,.1f} GB of memory and this machine has "
            f"{available / 1e9:,.1f} GB: {listed}; reduce the largest"
        )


def _numbers(values: Any) -> Iterator[float]:
    """Yields the numbers in nested dicts, lists and tuples."""
    if isinstance(values, dict):
        values = list(values.values())
    if isinstance(values, (list, tuple)):
        for value in values:
            yield from _numbers(value)
    elif isinstance(values, (int, float)):
        yield values


def _memory_bytes() -> float:
    """Returns the memory of the machine, or less if this process is confined to less."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            with open(path) as file:
                memory = min(memory, int(file.read()))
        except (OSError, ValueError):  # no such group, or "max"
            continue
    return memory
