"""Sources of TFRecord files: a shuffled order that many hosts share without each reading every file."""

import math
import os
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from convzoo.data.source import Source, epoch_seed, on_host

# Virtual shards per epoch. Divisible by 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64 and 96: with so many hosts, each reads
# only its part of the files.
VIRTUAL_SHARDS = 192

# Consecutive records that the fixed order takes from one of the interleaved files, as in TFDS.
_BLOCK_LENGTH = 16

_NAMES_PER_BATCH = 1024

# (row, record) in place of a record that cannot be read from its file.
_UNREADABLE = (-1, b"")


class _Segments(NamedTuple):
    """Contiguous parts of files: arrays or tensors of one length, with one entry per part."""

    paths: np.ndarray
    skips: np.ndarray  # int64, records of the file before the part
    takes: np.ndarray  # int64, records of the part, at least 1


class TFRecordSource(Source):
    """A source of TFRecord files with known numbers of records.

    Each epoch has this order: The files are permuted and form a circular sequence of n records. From a random offset
    on, the sequence is cut into VIRTUAL_SHARDS contiguous virtual shards of n // VIRTUAL_SHARDS or one more records,
    which get a random permutation of the indices 0 to VIRTUAL_SHARDS - 1. Each virtual shard shuffles its records with
    its fraction of the shuffle buffer. The virtual shards are interleaved record by record: position p of the epoch is
    record p // VIRTUAL_SHARDS of virtual shard p % VIRTUAL_SHARDS. A host that keeps every count-th position therefore
    opens only the files of some virtual shards.

    A record that cannot be read fails like one that cannot be parsed, and so do all later records of its file, because
    TFRecord has no markers to resume at.

    Args:
        spec, class_names, label_kind, max_boxes: As for `Source`.
        files: dict of split name to a list of (path str, number of records int) in their fixed order.
        parse: Function of a record (string []) to its example; it runs inside tf.data.
        parse_name: Function of a record to its name (string []); None for records without one.
        cycle_length: Number of files that the fixed order interleaves; 1 reads one file after the other.
    """

    def __init__(
        self,
        spec,
        class_names,
        files,
        parse,
        *,
        parse_name=None,
        cycle_length=16,
        label_kind="class",
        max_boxes=None,
    ):
        splits = {name: sum(count for _, count in split_files) for name, split_files in files.items()}
        super().__init__(spec, class_names, splits, label_kind, max_boxes=max_boxes)
        self._files, self._parse, self._parse_name, self._cycle_length = files, parse, parse_name, cycle_length

    def example_names(self, split):
        """Reads the names from the records, without decoding images; what has none gets its file and position."""
        locations = self._in_fixed_order(split, _locate_records).batch(_NAMES_PER_BATCH).as_numpy_iterator()
        names = [
            f"{os.path.basename(path.decode())}, record {row}"
            for batch in locations
            for path, row in zip(*batch, strict=True)
        ]
        if self._parse_name is None:
            return names
        records = self._in_fixed_order(split, _read_records, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        named = records.enumerate().map(lambda index, record: (index, self._parse_name(record[1])))
        for batch in named.ignore_errors().batch(_NAMES_PER_BATCH).as_numpy_iterator():
            for index, name in zip(*batch, strict=True):
                names[index] = name.decode(errors="replace") or names[index]
        return names

    def ordered(self, split, shard):
        index, count = shard
        records = self._in_fixed_order(split, _read_records, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        return records.shard(count, index).map(self._example, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)

    def shuffled(self, split, *, seed, first_example, shard, shuffle_buffer):
        index, count = shard
        segments, size = self._segments(split), self.num_examples(split)
        # Positions p with p % count == index lie in every step-th virtual shard.
        step = math.gcd(count, VIRTUAL_SHARDS)

        def epoch_records(epoch):
            order = _EpochOrder(segments, size, seed, epoch, shuffle_buffer)
            first = tf.maximum(first_example - epoch * size, 0)
            first += (index - (epoch * size + first)) % count
            # One position in each virtual shard of first, first + step, ...
            positions = tf.data.Dataset.range(first, tf.minimum(first + VIRTUAL_SHARDS, size), step)
            records = positions.interleave(
                lambda position: order.records_from(position, _read_records),
                cycle_length=VIRTUAL_SHARDS // step,
                block_length=1,
                num_parallel_calls=tf.data.AUTOTUNE,
                deterministic=True,
            ).shard(count // step, 0)
            numbers = tf.data.Dataset.range(epoch * size + first, (epoch + 1) * size, count)
            return tf.data.Dataset.zip((numbers, records))

        epochs = tf.data.Dataset.range(first_example // size, tf.int64.max)
        return epochs.flat_map(epoch_records).map(
            lambda number, record: (number, self._example(*record)), num_parallel_calls=tf.data.AUTOTUNE
        )

    def describe_example(self, split, number, *, seed, shuffle_buffer):
        return _describe(self._locations(split, number, seed, shuffle_buffer))

    def describe_ordered_example(self, split, position):
        return _describe(self._ordered_locations(split, position))

    def read_example(self, split, number, *, seed, shuffle_buffer):
        return self._read_first(self._locations(split, number, seed, shuffle_buffer))

    def read_ordered_example(self, split, position):
        return self._read_first(self._ordered_locations(split, position))

    def _locations(self, split, number, seed, shuffle_buffer):
        """Returns a tf.data.Dataset of `_locate_records`, starting at a number of the shuffled stream."""
        segments, size = self._segments(split), self.num_examples(split)
        epoch, position = divmod(number, size)

        def epoch_locations(epoch):
            return _EpochOrder(segments, size, seed, epoch, shuffle_buffer).records_from(position, _locate_records)

        return tf.data.Dataset.from_tensors(tf.constant(epoch, tf.int64)).flat_map(epoch_locations)

    def _ordered_locations(self, split, position):
        return self._in_fixed_order(split, _locate_records).skip(position)

    def _read_first(self, locations):
        """Returns a tf.data.Dataset of the example at the first location, without reading the records around it."""
        unreadable = tf.data.Dataset.from_tensors(_UNREADABLE[1])
        records = locations.take(1).flat_map(lambda path, row: tf.data.TFRecordDataset(path).skip(row).take(1))
        rows = tf.data.Dataset.from_tensor_slices([tf.constant(0, tf.int64), _UNREADABLE[0]])
        return tf.data.Dataset.zip((rows, records.concatenate(unreadable))).take(1).map(self._example)

    def _segments(self, split):
        """Returns the records of a split in the order of its files, _Segments of arrays."""
        segments = []
        for name, start, stop in self.ranges(split):
            file_start = 0
            for path, count in self._files[name]:
                low, high = max(start - file_start, 0), min(stop - file_start, count)
                if low < high:
                    segments.append((path, low, high - low))
                file_start += count
        paths, skips, takes = zip(*segments, strict=True)
        return _Segments(np.array(paths), np.array(skips, np.int64), np.array(takes, np.int64))

    def _in_fixed_order(self, split, read, **parallel):
        segments = tf.data.Dataset.from_tensor_slices(tuple(map(on_host, self._segments(split))))
        return segments.interleave(read, cycle_length=self._cycle_length, block_length=_BLOCK_LENGTH, **parallel)

    def _example(self, row, record):
        is_readable = tf.debugging.Assert(row != _UNREADABLE[0], ["the record cannot be read from its file"])
        with tf.control_dependencies([is_readable]):
            return self._parse(tf.identity(record))


class _EpochOrder:
    """The random order of one epoch. It is created inside a tf.data function.

    Args:
        segments: _Segments of arrays.
        size: Number of records of all segments.
        seed: int.
        epoch: int64 [].
        shuffle_buffer: Number of records that all virtual shards together buffer.
    """

    def __init__(self, segments, size, seed, epoch, shuffle_buffer):
        file_seed, offset_seed, shard_seed, record_seed = tf.unstack(
            tf.random.experimental.stateless_split(epoch_seed(seed, epoch), 4)
        )
        self._shuffle_buffer = -(-shuffle_buffer // VIRTUAL_SHARDS)
        files = tf.random.experimental.stateless_shuffle(tf.range(len(segments.paths)), file_seed)
        twice = tf.tile(files, [2])  # so that no virtual shard wraps around the end of the circular sequence
        self._segments = _Segments(*(tf.gather(on_host(part), twice) for part in segments))
        self._stops = tf.cumsum(self._segments.takes)

        permutation = tf.random.experimental.stateless_shuffle(tf.range(VIRTUAL_SHARDS), shard_seed)
        has_one_more = tf.range(VIRTUAL_SHARDS, dtype=tf.int64) < size % VIRTUAL_SHARDS
        self._lengths = size // VIRTUAL_SHARDS + tf.cast(has_one_more, tf.int64)
        starts = tf.cumsum(tf.gather(self._lengths, permutation), exclusive=True)
        starts += tf.random.stateless_uniform([], offset_seed, 0, size, tf.int64)
        self._starts = tf.scatter_nd(permutation[:, tf.newaxis], starts, [VIRTUAL_SHARDS])
        self._seeds = tf.random.stateless_uniform([VIRTUAL_SHARDS], record_seed, 1, tf.int64.max, tf.int64)

    @tf.autograph.experimental.do_not_convert
    def records_from(self, position, read):
        """Returns a tf.data.Dataset of the virtual shard that has a position of the epoch, starting there.

        Args:
            position: int or int64 [].
            read: Function of (path, skip, take) to a tf.data.Dataset with one element for each of these records.
        """
        index, num_before = position % VIRTUAL_SHARDS, position // VIRTUAL_SHARDS
        start = self._starts[index]
        stop = start + self._lengths[index]
        first = tf.searchsorted(self._stops, [start], side="right", out_type=tf.int64)[0]
        last = tf.searchsorted(self._stops, [stop], side="left", out_type=tf.int64)[0]

        def read_segment(i):
            segment_start = self._stops[i] - self._segments.takes[i]
            low, high = tf.maximum(start, segment_start), tf.minimum(stop, self._stops[i])
            return read(self._segments.paths[i], self._segments.skips[i] + low - segment_start, high - low)

        records = tf.data.Dataset.range(first, last + 1).flat_map(read_segment)
        if self._shuffle_buffer > 1:
            # tf.data combines the graph's seed with every shuffle seed. This fixes the seed of the function graph being
            # traced; otherwise the order would depend on tf.random.set_seed, and set_seed(0) would fail to trace.
            tf.compat.v1.set_random_seed(1)
            records = records.shuffle(self._shuffle_buffer, self._seeds[index], reshuffle_each_iteration=False)
        return records.skip(num_before)


def _read_records(path, skip, take):
    """Returns `take` elements (row int64 [], record string []) of a file; unreadable records are _UNREADABLE."""
    records = tf.data.TFRecordDataset(path).skip(skip).take(take)
    # Every attempt to read from a file that cannot be opened fails; the end of the rows ends the attempts.
    readable = tf.data.Dataset.zip((tf.data.Dataset.range(take), records)).ignore_errors(log_warning=True)
    filling = tf.data.Dataset.from_tensors((tf.constant(_UNREADABLE[0], tf.int64), _UNREADABLE[1])).repeat()
    return readable.concatenate(filling).take(take)


def _locate_records(path, skip, take):
    """Returns (path string [], index in the file int64 []) for each record of `_read_records`, without reading."""
    return tf.data.Dataset.zip((tf.data.Dataset.from_tensors(path).repeat(), tf.data.Dataset.range(skip, skip + take)))


def _describe(locations):
    path, record = next(locations.as_numpy_iterator())
    return f"{path.decode()}, record {record}"
