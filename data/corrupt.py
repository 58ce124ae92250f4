"""Corrupt images: the next readable image replaces one, the log names it, and too many of them end the run."""

import collections
import contextlib
import math
import re

import numpy as np
import tensorflow as tf
from absl import logging

from convzoo.data.decoding import decode_image
from convzoo.errors import DataError, first_line

NOT_CORRUPT = np.int64(-1)
# Before the message of an operation in a function of a dataset.
_INTERNALS = re.compile(r"^Error in user-defined function passed to .*? with iterator: \S+: ")
_MAX_REASONS = 5  # corrupt images whose decoding error is logged; each of them is read a second time


def replace_corrupt(dataset, batch_size, *, first=0, step=1, repeats=1):
    """Batches examples; the next readable one replaces each that fails, so that all others keep their positions.

    Args:
        dataset: tf.data.Dataset of (number int64 [], element dict). Producing an element may fail. The image at
            position i of the dataset has the number `(first + i // repeats * step) * repeats + i % repeats`.
        batch_size: int.
        first: Number of the first image, before repetition.
        step: Distance between the numbers of consecutive images, before repetition.
        repeats: Consecutive copies of each image.

    Returns:
        tf.data.Dataset of element dicts, batched, with an additional "corrupt" int64 [batch_size]: the number, before
        repetition, of the corrupt image that an element replaces, or NOT_CORRUPT. Corrupt images at the very end
        have no successor and are missing.
    """
    readable = dataset.ignore_errors(log_warning=True).batch(batch_size)

    # All steps work on batches: the overhead of a tf.data stage per element is significant next to decoding.
    def add_expected(expected, batch):
        numbers, elements = batch
        positions = (numbers // repeats - first) // step * repeats + numbers % repeats
        return positions[-1] + 1, (expected, positions, elements)

    def fill_gaps(expected, positions, elements):
        copies = positions - tf.concat([[expected - 1], positions[:-1]], 0)
        rows = tf.repeat(tf.range(tf.size(positions)), copies)

        # A gap may be longer than memory allows to fill at once.
        def piece(begin):
            chosen = rows[begin : begin + batch_size]
            filled = tf.cond(
                tf.reduce_all(copies == 1),
                lambda: elements,
                lambda: tf.nest.map_structure(lambda tensor: tf.gather(tensor, chosen), elements),
            )
            wanted = expected + begin + tf.range(tf.size(chosen, tf.int64))
            is_own = tf.gather(positions, chosen) == wanted
            return {**filled, "corrupt": tf.where(is_own, NOT_CORRUPT, first + wanted // repeats * step)}

        return tf.data.Dataset.range(0, tf.size(rows, tf.int64), batch_size).map(piece)

    pieces = readable.scan(tf.constant(0, tf.int64), add_expected).flat_map(fill_gaps)
    return pieces.rebatch(batch_size, drop_remainder=True)


def report_corrupt(dataset, counter):
    """Removes "corrupt" from batches after a CorruptImageCounter has read it.

    Args:
        dataset: tf.data.Dataset of dicts; without "corrupt" it is returned unchanged.
        counter: CorruptImageCounter, or None to report nothing.

    Returns:
        tf.data.Dataset of dicts.
    """
    if "corrupt" not in dataset.element_spec:
        return dataset

    def report(batch):
        batch = dict(batch)
        corrupt = batch.pop("corrupt")
        if counter is None:
            return batch
        is_counted = tf.cond(
            tf.reduce_any(corrupt != NOT_CORRUPT),
            lambda: tf.numpy_function(counter.count, [corrupt], tf.bool, stateful=True),
            lambda: True,
        )
        with tf.control_dependencies([is_counted]):
            return tf.nest.map_structure(tf.identity, batch)

    return dataset.map(report)


def max_corrupt_images(max_corrupt_fraction, num_examples, num_shards):
    """Returns how many corrupt images one shard tolerates per epoch, an int.

    With several shards this is the shard's expected number plus six standard deviations, because corrupt images may
    be spread unevenly.

    Args:
        max_corrupt_fraction: Maximum fraction of all examples, float.
        num_examples: Examples of all shards, int.
        num_shards: int.
    """
    mean = max_corrupt_fraction * num_examples / num_shards
    return math.floor(mean + 1e-9) if num_shards == 1 else math.floor(mean + 6 * math.sqrt(mean))


class CorruptImageCounter:
    """Logs and counts the corrupt images of each epoch.

    It is Python code in the process that reads the batches, so it can run neither in a data server nor on a remote
    TPU host. A restarted program counts from zero.

    Args:
        data_name: Name of the data in messages.
        describe: Function of a number to a str that identifies the image.
        read: Function of a number to a tf.data.Dataset of that example alone.
        epoch_size: Examples per epoch, over all shards.
        max_per_epoch: Corrupt images that an epoch tolerates.
    """

    def __init__(self, data_name, *, describe, read, epoch_size, max_per_epoch):
        self._data_name, self._describe, self._read = data_name, describe, read
        self._epoch_size, self._max_per_epoch = epoch_size, max_per_epoch
        self._numbers = collections.defaultdict(set)  # of each epoch
        self._num_reasons = 0

    def count(self, numbers):
        """Counts the corrupt images of a batch: int64 [n] array, in which NOT_CORRUPT marks good images.

        Raises:
            DataError: The epoch has more than `max_per_epoch`.
        """
        for number in numbers[numbers != NOT_CORRUPT].tolist():
            epoch_numbers = self._numbers[number // self._epoch_size]
            if number in epoch_numbers:
                continue
            epoch_numbers.add(number)
            is_too_many = len(epoch_numbers) > self._max_per_epoch
            image = f"{self._describe(number)}{self._reason(number, is_too_many)}"
            logging.warning("skipped a corrupt image of %s: %s", self._data_name, image)
            if is_too_many:
                raise DataError(
                    f"{len(epoch_numbers)} images of {self._data_name} are corrupt, most recently {image}; "
                    f"max_corrupt_fraction allows {self._max_per_epoch} of {self._epoch_size}: replace the files or "
                    "raise config.data.max_corrupt_fraction"
                )
        return np.bool_(True)

    def _reason(self, number, is_too_many):
        """Returns " (ERROR)" for the first few images and the last one, else ""."""
        if self._num_reasons == _MAX_REASONS and not is_too_many:
            return ""
        self._num_reasons += not is_too_many
        error = decoding_error(self._read(number))
        return f" ({error})" if error else ""


def decoding_error(examples):
    """Returns why the first example of a tf.data.Dataset cannot be read or decoded (str), or None if it can."""
    try:
        for example in examples.take(1):
            decode_image(example["image"])
    except tf.errors.OpError as error:
        return _INTERNALS.sub("", first_line(error))
    except UnicodeDecodeError:  # TensorFlow has put bytes of the image into its message
        return "corrupt"
    return None


@contextlib.contextmanager
def reraise_data_errors():
    """Reraises a DataError that tf.data has wrapped into a TensorFlow error, such as too many corrupt images.

    Example:
        >>> with reraise_data_errors():
        ...     raise tf.errors.UnknownError(None, None, "DataError: 3 images are corrupt")
        Traceback (most recent call last):
        ...
        convzoo.errors.DataError: 3 images are corrupt
    """
    try:
        yield
    except tf.errors.OpError as error:
        match = re.search(r"\bDataError: (.+)", str(error))
        if match is None:
            raise
        raise DataError(match.group(1).strip()) from error
