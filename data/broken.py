"""Pictures that cannot be decoded: their place is taken by the next whole one, they are counted and named, and too many
of them end the run."""

import collections
import contextlib
import math
import re

import numpy as np
import tensorflow as tf
from absl import logging

from convzoo.data.errors import DataError

NONE = np.int64(-1)  # in the place of the number of a broken picture: the picture is whole


def skip_broken(prepared):
    """Drop the elements whose preparation failed and let the next one stand in, so that all others keep their places.

    Args:
        prepared: tf.data.Dataset of (place int64 [], element), places 0, 1, 2, ...; making an element may fail.

    Returns:
        tf.data.Dataset of (place int64 [], whether the element is that place's own bool [], element). What is broken at
        a data set's end has no successor and is missing.
    """

    def with_gap(expected, place, element):
        return place + 1, (place, place - expected + 1, element)

    def filled(place, times, element):
        return tf.data.Dataset.from_tensors((place, element)).repeat(times)

    whole = prepared.ignore_errors(log_warning=True)
    whole = whole.scan(tf.constant(0, tf.int64), lambda expected, found: with_gap(expected, *found))
    return whole.flat_map(filled).enumerate().map(lambda place, found: (place, place == found[0], found[1]))


def most_broken(max_broken, examples, num_shards):
    """How many broken pictures of an epoch one of several shards bears.

    A share of all examples; where a shard sees only some of them, six standard deviations more, because they need not
    be spread evenly.

    Args:
        max_broken: float, the share of all examples that may be broken.
        examples: int, of all shards.
        num_shards: int.

    Returns:
        int.
    """
    mean = max_broken * examples / num_shards
    return math.floor(mean + 1e-9) if num_shards == 1 else math.floor(mean + 6 * math.sqrt(mean))


class BrokenPictures:
    """Counts the broken pictures of a pipeline as its batches come, epoch by epoch.

    It runs as Python in the process that reads the batches: not inside a tf.data service, and not on other machines
    than the one that the program runs on.

    Args:
        what: str, the data for messages.
        where: function of a number to the str that names the picture.
        epoch_size: int, numbers of an epoch.
        most: int, how many of an epoch may be broken.
    """

    def __init__(self, what, where, epoch_size, most):
        self._what, self._where, self._size, self._most = what, where, epoch_size, most
        self._of_epoch = collections.Counter()

    def counted(self, batch):
        """The batch without its "broken" int64 [batch]: numbers of broken pictures, NONE for whole ones.

        Raises (in tf.data) what `input_errors` turns into a DataError, once there are too many.
        """
        batch = dict(batch)
        numbers = batch.pop("broken")

        def tell():
            return tf.numpy_function(self._count, [numbers], tf.bool, stateful=True)

        told = tf.cond(tf.reduce_any(numbers != NONE), tell, lambda: True)
        with tf.control_dependencies([told]):
            return tf.nest.map_structure(tf.identity, batch)

    def _count(self, numbers):
        for number in numbers[numbers != NONE]:
            epoch = int(number) // self._size
            self._of_epoch[epoch] += 1
            logging.warning("skipped a broken picture of %s: %s", self._what, self._where(int(number)))
            if self._of_epoch[epoch] > self._most:
                raise DataError(
                    f"{self._of_epoch[epoch]} pictures of {self._what} are broken, the last of them "
                    f"{self._where(int(number))}, and max_broken allows {self._most} in {self._size}; mend the data or "
                    "raise config.data.max_broken"
                )
        return np.bool_(True)


@contextlib.contextmanager
def input_errors():
    """Turns the error by which a pipeline ends for too many broken pictures into the DataError that it was."""
    try:
        yield
    except tf.errors.OpError as error:
        found = re.search(r"\bDataError: (.+)", str(error))
        if found is None:
            raise
        raise DataError(found.group(1).strip()) from error
