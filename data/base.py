"""What every source offers: named splits of examples, in a fixed order and in an endless shuffled one."""

import abc

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from convzoo.data.errors import DataError, one_line

# Of maps of labels: a pixel that has none.
IGNORED = 255


class Source(abc.ABC):
    """A data set of labelled pictures.

    An example is `{"image": uint8 [height, width, channels] or scalar string of encoded bytes, "label": int64 []}`, or
    with `has_maps` a label for every pixel, uint8 [height, width], of which IGNORED counts nowhere.

    Attributes:
        spec: str, what `open_source` was given.
        class_names: list of str, one per class; the numbers as strings where the data set has no names.
        splits: dict of split name to its number of examples.
        has_maps: bool, whether every pixel has a label.
    """

    def __init__(self, spec, class_names, splits, has_maps=False):
        self.spec = spec
        self.class_names = list(class_names)
        self.splits = dict(splits)
        self.has_maps = has_maps

    @property
    def num_classes(self):
        """int, the number of classes."""
        return len(self.class_names)

    def ranges(self, split):
        """Resolve a split such as `train`, `train[:90%]` or `train+test[10:]` (the slicing syntax of TFDS).

        Args:
            split: str.

        Returns:
            list of (split name, first, end): the examples `first <= index < end` of each, together not empty.

        Raises:
            DataError: the split is unknown, its slice cannot be read or does not fit, or it holds no examples.
        """
        infos = tfds.core.SplitDict(
            [tfds.core.SplitInfo(name=name, shard_lengths=[n], num_bytes=0) for name, n in self.splits.items()]
        )
        known = ", ".join(f"{name} ({n} examples)" for name, n in self.splits.items()) or "none"
        try:
            absolute = tfds.core.ReadInstruction.from_spec(split).to_absolute(infos)
        except Exception as error:  # TFDS raises AssertionError, KeyError and ValueError for what users mistype
            raise DataError(
                f"split {split!r} of {self.spec!r} cannot be read ({one_line(error)}); the splits are {known}"
            ) from error
        found = [
            (part.splitname, part.from_ or 0, self.splits[part.splitname] if part.to is None else part.to)
            for part in absolute
        ]
        if sum(max(end - first, 0) for _, first, end in found) == 0:
            raise DataError(f"split {split!r} of {self.spec!r} holds no examples; the splits are {known}")
        return found

    def num_examples(self, split):
        """The number of examples of a split or slice.

        Args:
            split: str, as for `ranges`.

        Returns:
            int, at least 1.

        Raises:
            DataError: as `ranges`.
        """
        return sum(max(end - first, 0) for _, first, end in self.ranges(split))

    def dataset(self, split):
        """All examples of a split once, in an order that never changes.

        Args:
            split: str, as for `ranges`.

        Returns:
            tf.data.Dataset of examples.

        Raises:
            DataError: as `ranges`.
        """
        return self.ordered(split, (0, 1))

    def where(self, split, number, *, seed, shuffle_buffer):
        """What messages call an example of the shuffled stream, by its number.

        Args:
            split, seed, shuffle_buffer: as for `shuffled`.
            number: int.

        Returns:
            str.
        """
        epoch, position = divmod(number, self.num_examples(split))
        return f"example {position} of epoch {epoch} of {split}"

    def where_ordered(self, split, position):
        """What messages call an example of `dataset(split)`, by its position (int): str."""
        return f"example {position} of {split}"

    def example(self, split, number, *, seed, shuffle_buffer):
        """tf.data.Dataset of one example of the shuffled stream alone; args as `where`."""
        stream = self.shuffled(split, seed=seed, first_example=number, shard=(0, 1), shuffle_buffer=shuffle_buffer)
        return stream.map(lambda number, example: example).take(1)

    def example_ordered(self, split, position):
        """tf.data.Dataset of one example of `dataset(split)` alone, by its position (int)."""
        return self.dataset(split).skip(position).take(1)

    @abc.abstractmethod
    def ordered(self, split, shard):
        """`dataset(split)`, of which the shard (index, count) keeps the examples index, index + count, ..."""

    @abc.abstractmethod
    def shuffled(self, split, *, seed, first_example, shard, shuffle_buffer):
        """The endless stream of a split, every epoch in an order of its own.

        The number of an example counts all examples since the beginning of training, over epochs and shards: number
        `epoch * num_examples + position`. The order is a function of the seed and the epoch alone, so that a stream
        can begin anywhere without running through the epochs before.

        Args:
            split: str, as for `ranges`.
            seed: int.
            first_example: int, the number at which the stream begins.
            shard: (index, count): keep the numbers whose remainder by count is index.
            shuffle_buffer: int, how many examples a source without random access holds to shuffle among.

        Returns:
            tf.data.Dataset of (number int64 [], example).
        """


class IndexedSource(Source):
    """A source that can read any example by its row: shuffling permutes rows, and skipping costs nothing.

    Rows count through the splits one after the other, in the order of `splits`.
    """

    def __init__(self, spec, class_names, splits, lookup, has_maps=False, name_of=None):
        """Make the source.

        Args:
            spec, class_names, splits, has_maps: as for `Source`.
            lookup: function of a row (int64 [] tensor) to its example, called inside tf.data.
            name_of: function of a row (int) to what messages call it (str), or None for its position.
        """
        super().__init__(spec, class_names, splits, has_maps)
        self._lookup, self._name_of = lookup, name_of
        starts = np.cumsum([0, *self.splits.values()])
        self._first_row = dict(zip(self.splits, starts[:-1].tolist(), strict=True))

    def _rows(self, split):
        """int64 [num_examples] array: the rows of a split in their fixed order."""
        return np.concatenate(
            [np.arange(first, end, dtype=np.int64) + self._first_row[name] for name, first, end in self.ranges(split)]
        )

    def ordered(self, split, shard):
        index, count = shard
        rows = tf.data.Dataset.from_tensor_slices(self._rows(split)[index::count])
        return rows.map(self._lookup, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)

    def shuffled(self, split, *, seed, first_example, shard, shuffle_buffer):
        del shuffle_buffer  # the whole split is shuffled
        index, count = shard
        rows = self._rows(split)
        size = len(rows)

        def epoch_order(epoch):
            order = _order(rows, seed, epoch)
            begin = tf.maximum(first_example - epoch * size, 0)
            begin = tf.minimum(begin + (index - (epoch * size + begin)) % count, size)
            numbers = tf.range(epoch * size + begin, (epoch + 1) * size, count)
            return tf.data.Dataset.from_tensor_slices((numbers, order[begin::count]))

        epochs = tf.data.Dataset.range(first_example // size, tf.int64.max)
        return epochs.flat_map(epoch_order).map(
            lambda number, row: (number, self._lookup(row)), num_parallel_calls=tf.data.AUTOTUNE
        )

    def where(self, split, number, *, seed, shuffle_buffer):
        if self._name_of is None:
            return super().where(split, number, seed=seed, shuffle_buffer=shuffle_buffer)
        rows = self._rows(split)
        epoch, position = divmod(number, len(rows))
        return self._name_of(int(_order(rows, seed, epoch)[position]))

    def where_ordered(self, split, position):
        if self._name_of is None:
            return super().where_ordered(split, position)
        return self._name_of(int(self._rows(split)[position]))


def _order(rows, seed, epoch):
    """The rows as an epoch has them, int64 [num_examples]."""
    return tf.random.experimental.stateless_shuffle(on_host(rows), seed=epoch_seed(seed, epoch))


def epoch_seed(seed, epoch):
    """The seed of an epoch's order: int64 [2]. Negative, so that it never equals an example's (seed, number)."""
    return tf.stack([tf.constant(seed, tf.int64), -1 - epoch])


def on_host(array):
    """A tensor in the host's memory: tf.data runs there, and without this a GPU would hold the data set."""
    with tf.device("CPU:0"):
        return tf.constant(array)


def array_source(spec, class_names, arrays):
    """A source of pictures that lie in memory.

    Args:
        spec: str.
        class_names: list of str.
        arrays: dict of split name to (images uint8 [n, height, width, channels], labels [n]).

    Returns:
        IndexedSource.
    """
    images = on_host(np.concatenate([images for images, _ in arrays.values()]))
    labels = on_host(np.concatenate([labels for _, labels in arrays.values()]).astype(np.int64))
    return IndexedSource(
        spec,
        class_names,
        {name: len(labels) for name, (_, labels) in arrays.items()},
        lambda row: {"image": tf.gather(images, row), "label": tf.gather(labels, row)},
    )
