"""Sources that lie in TFRecord files: a shuffled order that many hosts share out without reading it all."""

import math
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from convzoo.data.base import Source, epoch_seed, on_host

# Streams that the order of an epoch is dealt from in turn. Divisible by every number of hosts up to 4 and by 6, 8, 12,
# 16, 24, 32, 48, 64 and 96: so many hosts read a share of the files each.
LANES = 192

# How many records of a file the fixed order takes before it turns to the next of the files at once, as TFDS does.
_BLOCK = 16

# Stands for a record that its file does not give.
_UNREADABLE = (-1, b"")


class _Runs(NamedTuple):
    """Records that lie one behind the other: arrays or tensors of one length, an entry for each piece of a file."""

    paths: np.ndarray
    skips: np.ndarray  # int64, records of the file before the piece
    takes: np.ndarray  # int64, records of the piece, at least 1


class RecordSource(Source):
    """A source of TFRecord files whose numbers of records are known.

    The order of an epoch: the files stand in an order that is drawn, and make a ring of n records. From a place of the
    ring that is drawn, LANES pieces of n // LANES or n // LANES + 1 records are cut, one for each lane, by lot. A lane
    shuffles its records as `tf.data` does, with its part of the shuffle buffer. Position p of the epoch is record
    p // LANES of lane p % LANES, so that some of the positions take only some of the lanes, and their files.

    A record that cannot be read fails like one that cannot be parsed, and so do those behind it in its file: TFRecord
    has no place there to go on from.
    """

    def __init__(self, spec, class_names, files, parse, *, files_at_once=16, has_maps=False):
        """Make the source.

        Args:
            spec, class_names, has_maps: as for `Source`.
            files: dict of split name to a list of (path str, number of records int) in their fixed order.
            parse: function of a record (string []) to its example, called inside tf.data.
            files_at_once: int, from how many files the fixed order takes blocks of records in turn; 1 reads file after
                file.
        """
        super().__init__(
            spec, class_names, {name: sum(n for _, n in of_split) for name, of_split in files.items()}, has_maps
        )
        self._files, self._parse, self._files_at_once = files, parse, files_at_once

    def ordered(self, split, shard):
        index, count = shard
        records = self._in_fixed_order(split, _read, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        return records.shard(count, index).map(self._example, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)

    def shuffled(self, split, *, seed, first_example, shard, shuffle_buffer):
        index, count = shard
        runs, size = self._runs(split), self.num_examples(split)
        # Positions with one remainder by this lie in every step-th lane.
        step = math.gcd(count, LANES)

        def epoch_records(epoch):
            order = _EpochOrder(runs, size, seed, epoch, shuffle_buffer)
            begin = tf.maximum(first_example - epoch * size, 0)
            begin += (index - (epoch * size + begin)) % count
            # The lanes that hold begin, begin + step, ...; those with a record more come first, whatever the first is.
            firsts = tf.data.Dataset.range(begin, tf.minimum(begin + LANES, size), step)
            records = firsts.interleave(
                lambda position: order.lane(position % LANES, _read).skip(position // LANES),
                cycle_length=LANES // step,
                block_length=1,
                num_parallel_calls=tf.data.AUTOTUNE,
                deterministic=True,
            ).shard(count // step, 0)
            numbers = tf.data.Dataset.range(epoch * size + begin, (epoch + 1) * size, count)
            return tf.data.Dataset.zip((numbers, records))

        epochs = tf.data.Dataset.range(first_example // size, tf.int64.max)
        return epochs.flat_map(epoch_records).map(
            lambda number, record: (number, self._example(*record)), num_parallel_calls=tf.data.AUTOTUNE
        )

    def where(self, split, number, *, seed, shuffle_buffer):
        return _told(self._place(split, number, seed, shuffle_buffer))

    def where_ordered(self, split, position):
        return _told(self._place_ordered(split, position))

    def example(self, split, number, *, seed, shuffle_buffer):
        return self._again(self._place(split, number, seed, shuffle_buffer))

    def example_ordered(self, split, position):
        return self._again(self._place_ordered(split, position))

    def _place(self, split, number, seed, shuffle_buffer):
        """tf.data.Dataset of what `_name` gives, which begins with a number of the shuffled stream."""
        runs, size = self._runs(split), self.num_examples(split)
        epoch, position = divmod(number, size)

        def lane_records(epoch):
            order = _EpochOrder(runs, size, seed, epoch, shuffle_buffer)
            return order.lane(position % LANES, _name).skip(position // LANES)

        return tf.data.Dataset.from_tensors(tf.constant(epoch, tf.int64)).flat_map(lane_records)

    def _place_ordered(self, split, position):
        return self._in_fixed_order(split, _name).skip(position)

    def _again(self, places):
        """tf.data.Dataset of the example at the first of the places, read without what lies around it."""
        unreadable = tf.data.Dataset.from_tensors(_UNREADABLE[1])
        records = places.take(1).flat_map(lambda path, row: tf.data.TFRecordDataset(path).skip(row).take(1))
        rows = tf.data.Dataset.from_tensor_slices([tf.constant(0, tf.int64), _UNREADABLE[0]])
        return tf.data.Dataset.zip((rows, records.concatenate(unreadable))).take(1).map(self._example)

    def _runs(self, split):
        """The records of a split in the order of its files: _Runs of arrays."""
        found = []
        for name, first, end in self.ranges(split):
            begin = 0
            for path, count in self._files[name]:
                low, high = max(first - begin, 0), min(end - begin, count)
                if low < high:
                    found.append((path, low, high - low))
                begin += count
        paths, skips, takes = zip(*found, strict=True)
        return _Runs(np.array(paths), np.array(skips, np.int64), np.array(takes, np.int64))

    def _in_fixed_order(self, split, read, **parallel):
        runs = tf.data.Dataset.from_tensor_slices(tuple(on_host(part) for part in self._runs(split)))
        return runs.interleave(read, cycle_length=self._files_at_once, block_length=_BLOCK, **parallel)

    def _example(self, row, record):
        readable = tf.debugging.Assert(row != _UNREADABLE[0], ["the record cannot be read from its file"])
        with tf.control_dependencies([readable]):
            return self._parse(tf.identity(record))


class _EpochOrder:
    """What an epoch draws. Made inside a function of tf.data."""

    def __init__(self, runs, size, seed, epoch, shuffle_buffer):
        """Draw the epoch.

        Args:
            runs: _Runs of arrays.
            size: int, the records of all runs.
            seed: int.
            epoch: int64 [].
            shuffle_buffer: int, of all lanes together.
        """
        for_files, for_turn, for_lanes, for_records = tf.unstack(
            tf.random.experimental.stateless_split(epoch_seed(seed, epoch), 4)
        )
        self._shuffle_buffer = -(-shuffle_buffer // LANES)
        order = tf.random.experimental.stateless_shuffle(tf.range(len(runs.paths)), for_files)
        twice_round = tf.tile(order, [2])  # no piece of the ring then runs over an end
        self._runs = _Runs(*(tf.gather(on_host(part), twice_round) for part in runs))
        self._ends = tf.cumsum(self._runs.takes)

        lots = tf.random.experimental.stateless_shuffle(tf.range(LANES), for_lanes)
        lanes = tf.range(LANES, dtype=tf.int64)
        self._lengths = size // LANES + tf.cast(lanes < size % LANES, tf.int64)
        begins = tf.cumsum(tf.gather(self._lengths, lots), exclusive=True)
        begins += tf.random.stateless_uniform([], for_turn, 0, size, tf.int64)
        self._begins = tf.scatter_nd(lots[:, tf.newaxis], begins, [LANES])
        self._seeds = tf.random.stateless_uniform([LANES], for_records, 1, tf.int64.max, tf.int64)

    @tf.autograph.experimental.do_not_convert
    def lane(self, lane, read):
        """The records of a lane in their order.

        Args:
            lane: int or int64 [].
            read: function of (path, skip, take) that gives these records of a file as a tf.data.Dataset.

        Returns:
            tf.data.Dataset of what read gives.
        """
        begin = self._begins[lane]
        end = begin + self._lengths[lane]
        first = tf.searchsorted(self._ends, [begin], side="right", out_type=tf.int64)[0]
        last = tf.searchsorted(self._ends, [end], side="left", out_type=tf.int64)[0]

        def piece(i):
            run_begin = self._ends[i] - self._runs.takes[i]
            low, high = tf.maximum(begin, run_begin), tf.minimum(end, self._ends[i])
            return read(self._runs.paths[i], self._runs.skips[i] + low - run_begin, high - low)

        records = tf.data.Dataset.range(first, last + 1).flat_map(piece)
        if self._shuffle_buffer == 1:
            return records
        # tf.data mixes the graph's seed into every shuffle. This one belongs to the function being traced: without
        # it the order would follow the caller's tf.random.set_seed, and fail to trace after set_seed(0).
        tf.compat.v1.set_random_seed(1)
        return records.shuffle(self._shuffle_buffer, self._seeds[lane], reshuffle_each_iteration=False)


def _read(path, skip, take):
    """Records of a file: (row int64 [], record string []), exactly take, those that cannot be read _UNREADABLE."""
    records = tf.data.TFRecordDataset(path).skip(skip).take(take)
    # A file that cannot be opened fails at every attempt; the rows end that.
    readable = tf.data.Dataset.zip((tf.data.Dataset.range(take), records)).ignore_errors(log_warning=True)
    filling = tf.data.Dataset.from_tensors((tf.constant(_UNREADABLE[0], tf.int64), _UNREADABLE[1])).repeat()
    return readable.concatenate(filling).take(take)


def _name(path, skip, take):
    """What `_read` would read, without reading: (path string [], record of the file int64 [])."""
    return tf.data.Dataset.zip((tf.data.Dataset.from_tensors(path).repeat(), tf.data.Dataset.range(skip, skip + take)))


def _told(names):
    """The first of a tf.data.Dataset of names, as messages call it."""
    path, record = next(names.as_numpy_iterator())
    return f"{path.decode()}, record {record}"
