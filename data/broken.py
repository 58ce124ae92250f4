"""Pictures that cannot be decoded: their place is taken by the next whole one, they are counted and named, and too many
of them end the run."""

import collections
import contextlib
import math
import re

import numpy as np
import tensorflow as tf
from absl import logging

from convzoo.data.errors import DataError, one_line
from convzoo.data.transforms import decode_image

NONE = np.int64(-1)  # in the place of the number of a broken picture: the picture is whole
_EXPLAINED = 5  # how many of a process's broken pictures the log tells the reason of


def skip_broken(prepared, batch_size):
    """Drop the elements whose preparation failed and let the next one stand in, so that all others keep their places.

    Args:
        prepared: tf.data.Dataset of (place int64 [], element), places 0, 1, 2, ...; making an element may fail.
        batch_size: int.

    Returns:
        tf.data.Dataset of (places int64 [n], elements [n, ...]), n from 1 to batch_size, for `rebatch`. An element for
        each place: where the place that it tells is not the one at which it comes, it stands in. What is broken at a
        data set's end has no successor and is missing.
    """
    whole = prepared.ignore_errors(log_warning=True).batch(batch_size)

    # Batch by batch, because every step by elements takes time of which a picture has little. What fills gaps comes in
    # pieces no longer than a batch: if thousands are broken in a row, one element stands for all of them.
    def with_gaps(expected, batch):
        places, elements = batch
        return places[-1] + 1, (expected, places, elements)

    def filled(expected, places, elements):
        times = places - tf.concat([[expected - 1], places[:-1]], 0)
        rows = tf.repeat(tf.range(tf.size(places)), times)

        def piece(begin):
            def chosen():
                of_piece = rows[begin : begin + batch_size]
                return tf.nest.map_structure(lambda tensor: tf.gather(tensor, of_piece), (places, elements))

            return tf.cond(tf.reduce_all(times == 1), lambda: (places, elements), chosen)

        return tf.data.Dataset.range(0, tf.size(rows, tf.int64), batch_size).map(piece)

    return whole.scan(tf.constant(0, tf.int64), with_gaps).flat_map(filled)


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
    than the one that the program runs on. A program that is started again counts anew.

    Args:
        what: str, the data for messages.
        where: function of a number to the str that names the picture.
        example: function of a number to a tf.data.Dataset of that example alone.
        epoch_size: int, numbers of an epoch.
        most: int, how many of an epoch may be broken.
    """

    def __init__(self, what, where, example, epoch_size, most):
        self._what, self._where, self._example, self._size, self._most = what, where, example, epoch_size, most
        self._of_epoch = collections.defaultdict(set)
        self._explained = 0

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
        for number in numbers[numbers != NONE].tolist():
            of_epoch = self._of_epoch[number // self._size]
            if number in of_epoch:
                continue  # it comes several times
            of_epoch.add(number)
            is_last = len(of_epoch) > self._most
            place = f"{self._where(number)}{self._reason(number, is_last)}"
            logging.warning("skipped a broken picture of %s: %s", self._what, place)
            if is_last:
                raise DataError(
                    f"{len(of_epoch)} pictures of {self._what} are broken, the last of them {place}, and max_broken "
                    f"allows {self._most} in {self._size}; mend the data or raise config.data.max_broken"
                )
        return np.bool_(True)

    def _reason(self, number, is_last):
        """Why, in brackets: of the first few, and of the one that ends the run, because they are read again for it."""
        if self._explained == _EXPLAINED and not is_last:
            return ""
        self._explained += not is_last
        error = decoding_error(self._example(number))
        return f" ({error})" if error else ""


def decoding_error(examples):
    """Why the first of the examples, a tf.data.Dataset, cannot be had or decoded, in one line (str); None if it can."""
    try:
        for example in examples.take(1):
            decode_image(example["image"])
    except tf.errors.OpError as error:
        return one_line(error)
    return None


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
