"""`tfds:NAME`: any classification data set of TensorFlow Datasets, and those with maps of labels that we know."""

import tensorflow as tf
import tensorflow_datasets as tfds

from convzoo.data.base import IGNORED, Source, epoch_seed
from convzoo.data.errors import DataError
from convzoo.data.prepare import prepared_builder


def open_named(spec, name, data_dir):
    """Open `tfds:NAME`, `tfds:NAME:VERSION` or `tfds:NAME/CONFIG:VERSION`; prepare it first where that is missing.

    Args:
        spec: str, the whole source string.
        name: str, the part behind `tfds:`.
        data_dir: str, where TFDS keeps its data sets, or None for its own default.

    Returns:
        Source with the splits of the data set.

    Raises:
        DataError: the name is unknown, the data cannot be prepared, or they are no labelled pictures.
    """
    if not name:
        raise DataError(f"source {spec!r} lacks a name; write for example tfds:cifar10")
    builder = prepared_builder(spec, lambda: tfds.builder(name, data_dir=data_dir))
    return NamedSource(spec, builder)


# Data sets with maps: the feature, its lowest value, and the classes from there on.
_MAPS = {"oxford_iiit_pet": ("segmentation_mask", 1, ("pet", "background", "border"))}


def open_named_maps(spec, name, data_dir):
    """Open a data set of TensorFlow Datasets whose every pixel has a label, by the name of one that we know.

    Arguments and errors as for `open_named`.
    """
    if (known := name.partition("/")[0].partition(":")[0]) not in _MAPS:
        raise DataError(f"source {spec!r}: of {known!r} no maps are known; known are {', '.join(_MAPS)}")
    builder = prepared_builder(spec, lambda: tfds.builder(name, data_dir=data_dir))
    return NamedMapsSource(spec, builder, *_MAPS[known])


class _Records(Source):
    """A prepared TFDS data set, read as a stream of records whose pictures stay encoded until they are cropped."""

    def __init__(self, spec, builder, image_key, label_key, class_names, has_maps=False):
        splits = {name: info.num_examples for name, info in builder.info.splits.items()}
        super().__init__(spec, class_names, splits, has_maps)
        self._builder, self._image_key, self._label_key = builder, image_key, label_key
        image = builder.info.features[image_key]
        if tf.as_dtype(image.np_dtype) not in (tf.uint8, tf.uint16):
            raise DataError(f"source {spec!r} holds {image.np_dtype} pictures; only uint8 and uint16 ones can be read")

    def _label(self, label):
        """What the record's feature says, as an example has it."""
        return label

    def _read(self, split, shuffle_seed):
        """The examples of a split; the order of the files follows shuffle_seed (int64 []), or is fixed for None."""
        examples = self._builder.as_dataset(
            split=split,
            shuffle_files=shuffle_seed is not None,
            decoders=tfds.decode.PartialDecoding(
                {self._image_key: True, self._label_key: True},
                decoders={self._image_key: tfds.decode.SkipDecoding()},
            ),
            read_config=tfds.ReadConfig(
                shuffle_seed=shuffle_seed,
                shuffle_reshuffle_each_iteration=False,
                try_autocache=False,  # one cache per epoch would never be read again
                enable_ordering_guard=False,  # a data set with an order of its own is shuffled like any other
            ),
        )
        return examples.map(
            lambda example: {"image": example[self._image_key], "label": self._label(example[self._label_key])},
            num_parallel_calls=tf.data.AUTOTUNE,
            deterministic=True,
        )

    def ordered(self, split, shard):
        self.ranges(split)
        index, count = shard
        return self._read(split, None).shard(count, index)

    def shuffled(self, split, *, seed, first_example, shard, shuffle_buffer):
        index, count = shard
        size = self.num_examples(split)

        @tf.autograph.experimental.do_not_convert
        def epoch_examples(epoch):
            # tf.data mixes the graph's seed into every shuffle. This one belongs to the function being traced: without
            # it the order would follow the caller's tf.random.set_seed, and fail to trace after set_seed(0).
            tf.compat.v1.set_random_seed(1)
            files, records = tf.unstack(
                tf.random.stateless_uniform([2], epoch_seed(seed, epoch), 1, tf.int32.max, tf.int64)
            )
            skipped = tf.maximum(first_example - epoch * size, 0)
            examples = self._read(split, files).shuffle(shuffle_buffer, records, reshuffle_each_iteration=False)
            numbers = tf.data.Dataset.range(epoch * size + skipped, tf.int64.max)
            return tf.data.Dataset.zip((numbers, examples.skip(skipped)))

        epochs = tf.data.Dataset.range(first_example // size, tf.int64.max)
        return epochs.flat_map(epoch_examples).shard(count, (index - first_example) % count)


class NamedSource(_Records):
    """A TFDS data set of pictures with one label."""

    def __init__(self, spec, builder):
        """Make the source of a prepared builder.

        Args:
            spec: str.
            builder: tfds.core.DatasetBuilder, prepared.

        Raises:
            DataError: the data set has no picture with one label.
        """
        features = dict(builder.info.features.items())
        keys = builder.info.supervised_keys
        keys = keys if keys and len(keys) == 2 and all(isinstance(key, str) for key in keys) else ("image", "label")
        found = ", ".join(f"{name}: {type(feature).__name__}" for name, feature in features.items())
        image, label = (features.get(key) for key in keys)
        if not isinstance(image, tfds.features.Image) or not isinstance(label, tfds.features.ClassLabel):
            raise DataError(f"source {spec!r} has no Image with one ClassLabel but {found}; choose another data set")
        if not label.num_classes:
            raise DataError(f"source {spec!r} does not say how many classes it has; choose another data set")
        super().__init__(spec, builder, *keys, label.names)


class NamedMapsSource(_Records):
    """A TFDS data set of pictures with a label for every pixel."""

    def __init__(self, spec, builder, label_key, first, class_names):
        """Make the source of a prepared builder.

        Args:
            spec: str.
            builder: tfds.core.DatasetBuilder, prepared.
            label_key: str, the feature with the maps.
            first: int, the value of the first class there; lower and higher ones than the classes' are IGNORED.
            class_names: sequence of str.
        """
        super().__init__(spec, builder, "image", label_key, class_names, has_maps=True)
        self._first = first

    def _label(self, label):
        label = tf.cast(label[..., 0], tf.int32) - self._first
        known = (label >= 0) & (label < self.num_classes)
        return tf.cast(tf.where(known, label, IGNORED), tf.uint8)
