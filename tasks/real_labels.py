"""Lists of acceptable labels per image, such as the reassessed labels of ImageNet (ReaL, arXiv 2006.07159)."""

import json
import re
from collections.abc import Sequence

import numpy as np
import tensorflow as tf
from absl import logging

from convzoo import data
from convzoo.errors import ConfigError, first_line
from convzoo.files import read_text

# The lists of real.json have the order of these numbers.
_IMAGENET_NAME = re.compile(r"ILSVRC2012_val_(\d{8})")
_LOW_AGREEMENT = 0.5


def read_real_labels(path: str, source: data.Source, split: str) -> list[frozenset[int]]:
    """Reads the acceptable labels of each image of a split.

    The file has the format of ImageNet-ReaL's real.json: a JSON list with a list of class indices for each image. If
    images have the file names of ImageNet's validation set, ILSVRC2012_val_00000001 and so on, each gets the list of
    its number, as in timm, and other images do not count; otherwise the lists have the order of `split`.

    Args:
        path: The file, local or gs://.
        source, split: The images.

    Returns:
        The labels of each example of `source.dataset(split)`; empty for images that do not count.

    Raises:
        ConfigError: The file cannot be read, has another format or another number of lists, names a class that does not
            exist, or has no label for any image of the split.
    """
    lists = _read(path, source.num_classes)
    names, count = source.example_names(split), source.num_examples(split)
    matches = [_IMAGENET_NAME.search(name) for name in names or ()]
    if any(matches):
        numbers = [int(match[1]) if match else 0 for match in matches]
        if max(numbers) > len(lists):
            raise ConfigError(
                f"--real_labels={path} has {len(lists)} lists, too few for {names[np.argmax(numbers)]}; use the file "
                "of the whole validation set"
            )
        lists = [lists[number - 1] if number else frozenset() for number in numbers]
    if len(lists) != count:
        raise ConfigError(
            f"--real_labels={path} has {len(lists)} lists and {split} of {source.spec} has {count} images; give one "
            "list per image, in the order of the split"
        )
    if not any(lists):
        raise ConfigError(f"--real_labels={path} has no label for any image of {split}; use another file or split")
    return lists


def _read(path, num_classes):
    """Returns the lists of a file as sets."""
    try:
        lists = json.loads(read_text(path))
    except (tf.errors.OpError, OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"cannot read --real_labels={path} ({first_line(error)}); use a JSON file") from error
    if not isinstance(lists, list) or not all(isinstance(labels, list) for labels in lists):
        raise ConfigError(f"--real_labels={path} is not a JSON list of lists; use the format of ImageNet's real.json")
    for number, labels in enumerate(lists):
        for label in labels:
            if type(label) is not int or not 0 <= label < num_classes:
                raise ConfigError(
                    f"--real_labels={path}: list {number} has {str(label)[:40]!r}; use class indices from 0 to "
                    f"{num_classes - 1}"
                )
    return [frozenset(labels) for labels in lists]


def real_accuracy(
    classes: np.ndarray, labels: np.ndarray, real_labels: Sequence[frozenset[int]], top_k: Sequence[int]
) -> dict[str, float]:
    """Returns the share of images with an acceptable label among their first k classes, for each k.

    Images without acceptable labels do not count. A warning is logged if most of the others lack their own label, which
    happens if the lists have another order than the images.

    Args:
        classes: Predicted classes, the most probable first, int [images, at least 1].
        labels: Label of each image, int [images].
        real_labels: Acceptable labels of each image.
        top_k: Values of k.

    Returns:
        "real_top1" and so on, shares of 1, and "real_examples", the number of images that counted; {} if none did.

    Example:
        >>> real_accuracy(np.array([[2, 0], [1, 0], [0, 1]]), np.array([0, 1, 2]), [{0, 3}, {1}, {}], (1, 2))
        {'real_top1': 0.5, 'real_top2': 1.0, 'real_examples': 2}
    """
    counted = [index for index, acceptable in enumerate(real_labels) if acceptable]
    if not counted:
        return {}
    agreement = np.mean([labels[index] in real_labels[index] for index in counted])
    if agreement < _LOW_AGREEMENT:
        logging.warning(
            "only %.1f %% of the images have their own label among the real labels; check the order of the lists",
            100 * agreement,
        )
    is_acceptable = np.array([[label in real_labels[index] for label in classes[index]] for index in counted])
    return {
        **{f"real_top{k}": float(is_acceptable[:, :k].any(1).mean()) for k in top_k},
        "real_examples": len(counted),
    }
