"""The interface of every data source: named splits of examples, in a fixed order or in an endless shuffled stream."""

import abc
import re
from typing import Literal

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from convzoo.errors import DataError, first_line

_PARTS = 10**6
_LABELS_PER_BATCH = 1024
# Label of a pixel that neither loss nor metrics count.
IGNORED = 255
# What the label of an image is: one class, a map with the class of each pixel, boxes with a class each, or the image's
# own number.
LabelKind = Literal["class", "map", "boxes", "number"]


class Source(abc.ABC):
    """A dataset of labeled images.

    An example is `{"image": uint8 [height, width, channels] or string [] of encoded bytes, "label": ...}`. The label
    depends on `label_kind`:

    - "class": int64 [];
    - "map": uint8 [height, width], in which IGNORED marks pixels without a class;
    - "boxes": a dict of "boxes" float32 [n, 4] (top, left, bottom, right, in units of the image's height and width),
      "classes" int64 [n], "is_crowd" bool [n], boxes that neither training nor metrics count as objects, and optionally
      "areas" float32 [n], the objects' areas in pixels, for metrics by size;
    - "number": int64 [], the position in the split, see `PairedSource`.

    Subclasses implement `ordered` and `shuffled`.

    Attributes:
        spec: str, the argument of `open_source`.
        class_names: list of str; the class indices as strings if the dataset has no names.
        splits: dict of split name to its number of examples.
        label_kind: LabelKind.
        max_boxes: Largest number of boxes of an image, at least 1; None without boxes.
        notes: list of str, what users should know about the data, such as files that were ignored.

    Example:
        >>> from convzoo import data
        >>> source = data.open_source("fake:classes=3,size=8,examples=20")
        >>> source.splits, source.num_classes, source.num_examples("train[:50%]")
        ({'train': 20, 'test': 20}, 3, 10)
        >>> next(iter(source.dataset("train")))["image"].shape
        TensorShape([8, 8, 3])
    """

    def __init__(self, spec, class_names, splits, label_kind="class", notes=(), max_boxes=None):
        self.spec = spec
        self.notes = list(notes)
        self.class_names = list(class_names)
        self.splits = dict(splits)
        self.label_kind, self.max_boxes = label_kind, max_boxes

    @property
    def num_classes(self):
        """Number of classes, int."""
        return len(self.class_names)

    def ranges(self, split):
        """Resolves a split such as `train`, `train[:90%]` or `train+test[10:]` (the slicing syntax of TFDS).

        Returns:
            list of (split name, start, stop), the examples `start <= index < stop` of each; together not empty.

        Raises:
            DataError: The split is unknown or empty, or its slice is invalid.
        """
        infos = tfds.core.SplitDict(
            [tfds.core.SplitInfo(name=name, shard_lengths=[n], num_bytes=0) for name, n in self.splits.items()]
        )
        available = ", ".join(f"{name} ({n} examples)" for name, n in self.splits.items()) or "none"
        try:
            ranges = [found for part in re.split(r"\s*\+\s*", split.strip()) for found in self._part(part, infos)]
        except Exception as error:  # TFDS raises AssertionError, KeyError and ValueError for invalid splits
            raise DataError(
                f"split {split!r} of {self.spec!r} is invalid ({first_line(error)}); available: {available}"
            ) from error
        if sum(max(stop - start, 0) for _, start, stop in ranges) == 0:
            raise DataError(f"split {split!r} of {self.spec!r} has no examples; available: {available}")
        return ranges

    def _part(self, part, infos):
        """Returns the ranges of one part of a sum of splits."""
        return [
            (found.splitname, found.from_ or 0, self.splits[found.splitname] if found.to is None else found.to)
            for found in tfds.core.ReadInstruction.from_spec(part).to_absolute(infos)
        ]

    def label_counts(self, split):
        """Returns the number of examples of each class, int [num_classes] array; None if that takes reading them."""
        del split
        return None

    def labels(self, split):
        """Returns the labels of `dataset(split)`, int64 [examples] array, for "class" labels."""
        labels = self.dataset(split).map(lambda example: example["label"]).batch(_LABELS_PER_BATCH)
        return np.concatenate(list(labels.as_numpy_iterator()))

    def example_names(self, split):
        """Returns the name of each example of `dataset(split)`, such as its file, list of str; None without names."""
        del split
        return None

    def num_examples(self, split):
        """Returns the number of examples of a split or slice, at least 1. Raises DataError as `ranges` does."""
        return sum(max(stop - start, 0) for _, start, stop in self.ranges(split))

    def dataset(self, split):
        """Returns a tf.data.Dataset of all examples of a split, once, in an order that never changes."""
        return self.ordered(split, (0, 1))

    @abc.abstractmethod
    def ordered(self, split, shard):
        """Returns the examples index, index + count, ... of `dataset(split)` for a shard (index, count)."""

    @abc.abstractmethod
    def shuffled(self, split, *, seed, first_example, shard, shuffle_buffer):
        """Returns the endless stream of a split, with a different order in every epoch.

        An example has the number `epoch * num_examples + position`, which counts over epochs and shards. The order of
        an epoch is a function of the seed and the epoch alone, so a stream can start anywhere without reading the
        epochs before.

        Args:
            split: str, as for `ranges`.
            seed: int.
            first_example: Number of the first example.
            shard: (index, count): keeps the numbers n with n % count == index.
            shuffle_buffer: Number of examples that a source without random access holds in memory to shuffle.

        Returns:
            tf.data.Dataset of (number int64 [], example).
        """

    def describe_example(self, split, number, *, seed, shuffle_buffer):
        """Returns a str that identifies an example of the shuffled stream in messages."""
        epoch, position = divmod(number, self.num_examples(split))
        return f"example {position} of epoch {epoch} of {split}"

    def describe_ordered_example(self, split, position):
        """Returns a str that identifies the example at a position of `dataset(split)` in messages."""
        return f"example {position} of {split}"

    def read_example(self, split, number, *, seed, shuffle_buffer):
        """Returns a tf.data.Dataset of one example of the shuffled stream alone."""
        stream = self.shuffled(split, seed=seed, first_example=number, shard=(0, 1), shuffle_buffer=shuffle_buffer)
        return stream.map(lambda number, example: example).take(1)

    def read_ordered_example(self, split, position):
        """Returns a tf.data.Dataset of the example at a position of `dataset(split)` alone."""
        return self.dataset(split).skip(position).take(1)


class IndexedSource(Source):
    """A source with random access to its rows: shuffling permutes row numbers, and skipping is free.

    Row numbers count through the splits, in the order of `splits`.

    Args:
        spec, class_names, splits, label_kind, notes, max_boxes: As for `Source`.
        read_row: Function of a row number (int64 []) to its example; it runs inside tf.data.
        row_name: Function of a row number (int) to a str that identifies the example in messages, or None.
        labels: Label of each row, int array, or None.
        positions: dict of split name to the positions of its examples, a sorted float array in [0, 1), or None. The
            slice `[:10%]` then has the examples with positions below 0.1 in place of the first tenth.
    """

    def __init__(
        self,
        spec,
        class_names,
        splits,
        read_row,
        label_kind="class",
        row_name=None,
        labels=None,
        positions=None,
        notes=(),
        max_boxes=None,
    ):
        super().__init__(spec, class_names, splits, label_kind, notes, max_boxes)
        self._read_row, self._row_name, self._labels, self._positions = read_row, row_name, labels, positions
        starts = np.cumsum([0, *self.splits.values()])
        self._first_row = dict(zip(self.splits, starts[:-1].tolist(), strict=True))

    def _part(self, part, infos):
        ranges = super()._part(part, infos)
        if self._positions is None or "%" not in part:
            return ranges
        moved = []
        for name, _, _ in ranges:
            # In a split of so many examples, the ends of the slice are its ends in parts of the whole.
            info = tfds.core.SplitInfo(name=name, shard_lengths=[_PARTS], num_bytes=0)
            (whole,) = tfds.core.ReadInstruction.from_spec(part).to_absolute(tfds.core.SplitDict([info]))
            ends = np.array([whole.from_ or 0, _PARTS if whole.to is None else whole.to]) / _PARTS
            moved.append((name, *np.searchsorted(self._positions[name], ends).tolist()))
        return moved

    def label_counts(self, split):
        if self._labels is None:
            return None
        return np.bincount(self._labels[self._rows(split)], minlength=self.num_classes)

    def labels(self, split):
        return super().labels(split) if self._labels is None else self._labels[self._rows(split)]

    def example_names(self, split):
        return None if self._row_name is None else [self._row_name(int(row)) for row in self._rows(split)]

    def ordered(self, split, shard):
        index, count = shard
        rows = tf.data.Dataset.from_tensor_slices(self._rows(split)[index::count])
        return rows.map(self._read_row, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)

    def shuffled(self, split, *, seed, first_example, shard, shuffle_buffer):
        del shuffle_buffer  # the whole split is shuffled
        index, count = shard
        rows = self._rows(split)
        size = len(rows)

        def epoch_rows(epoch):
            first = tf.maximum(first_example - epoch * size, 0)
            first = tf.minimum(first + (index - (epoch * size + first)) % count, size)
            numbers = tf.range(epoch * size + first, (epoch + 1) * size, count)
            return tf.data.Dataset.from_tensor_slices((numbers, _shuffled_rows(rows, seed, epoch)[first::count]))

        epochs = tf.data.Dataset.range(first_example // size, tf.int64.max)
        return epochs.flat_map(epoch_rows).map(
            lambda number, row: (number, self._read_row(row)), num_parallel_calls=tf.data.AUTOTUNE
        )

    def describe_example(self, split, number, *, seed, shuffle_buffer):
        if self._row_name is None:
            return super().describe_example(split, number, seed=seed, shuffle_buffer=shuffle_buffer)
        rows = self._rows(split)
        epoch, position = divmod(number, len(rows))
        return self._row_name(int(_shuffled_rows(rows, seed, epoch)[position]))

    def describe_ordered_example(self, split, position):
        if self._row_name is None:
            return super().describe_ordered_example(split, position)
        return self._row_name(int(self._rows(split)[position]))

    def read_ordered_example(self, split, position):
        return tf.data.Dataset.from_tensors(self._rows(split)[position]).map(self._read_row)

    def _rows(self, split):
        """Returns the row numbers of a split in their fixed order, int64 [num_examples] array."""
        return np.concatenate(
            [np.arange(start, stop) + self._first_row[name] for name, start, stop in self.ranges(split)], dtype=np.int64
        )


def array_source(spec, class_names, arrays):
    """Returns an IndexedSource of images in memory.

    Args:
        spec: str.
        class_names: list of str.
        arrays: dict of split name to (images uint8 [n, height, width, channels], labels [n]).
    """
    images = on_host(np.concatenate([images for images, _ in arrays.values()]))
    labels = on_host(np.concatenate([labels for _, labels in arrays.values()]).astype(np.int64))
    return IndexedSource(
        spec,
        class_names,
        {name: len(labels) for name, (_, labels) in arrays.items()},
        lambda row: {"image": tf.gather(images, row), "label": tf.gather(labels, row)},
        labels=labels.numpy(),
    )


def epoch_seed(seed, epoch):
    """Returns the seed of an epoch's order, int64 [2]; negative, so it differs from every example's (seed, number)."""
    return tf.stack([tf.constant(seed, tf.int64), -1 - epoch])


def on_host(array):
    """Returns a tensor in host memory, where tf.data runs; by default a GPU would hold it."""
    with tf.device("CPU:0"):
        return tf.constant(array)


def _shuffled_rows(rows, seed, epoch):
    """Returns the rows in the order of an epoch, int64 [num_examples]."""
    return tf.random.experimental.stateless_shuffle(on_host(rows), seed=epoch_seed(seed, epoch))
