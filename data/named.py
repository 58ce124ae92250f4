"""`tfds:NAME`: any classification data set of TensorFlow Datasets, and those with maps of labels that we know."""

import tensorflow as tf
import tensorflow_datasets as tfds

from convzoo.data.base import IGNORED
from convzoo.data.errors import DataError
from convzoo.data.prepare import prepared_builder
from convzoo.data.records import RecordSource

_TFRECORD = tfds.core.FileFormat.TFRECORD


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


class _Prepared(RecordSource):
    """A prepared TFDS data set, whose pictures stay encoded until they are cropped."""

    def __init__(self, spec, builder, image_key, label_key, class_names, has_maps=False):
        self._image_key, self._label_key = image_key, label_key
        image = builder.info.features[image_key]
        if tf.as_dtype(image.np_dtype) not in (tf.uint8, tf.uint16):
            raise DataError(f"source {spec!r} holds {image.np_dtype} pictures; only uint8 and uint16 ones can be read")
        file_format = builder.info.file_format or _TFRECORD  # data sets of old do not say
        if file_format != _TFRECORD:
            raise DataError(
                f"source {spec!r} lies in files of {file_format.value} under {builder.data_path}; prepare it in the "
                f"format {_TFRECORD.value}"
            )
        self._read_parts = tfds.decode.PartialDecoding(
            {image_key: True, label_key: True}, decoders={image_key: tfds.decode.SkipDecoding()}
        )
        self._features = self._read_parts.extract_features(builder.info.features)
        super().__init__(
            spec,
            class_names,
            {
                name: [(str(file.filename), file.take) for file in info.file_instructions]
                for name, info in builder.info.splits.items()
            },
            self._parsed,
            # In the order of as_dataset, which leaves data sets with an order of their own in that.
            files_at_once=1 if builder.info.disable_shuffling else 16,
            has_maps=has_maps,
        )

    def _label(self, label):
        """What the record's feature says, as an example has it."""
        return label

    def _parsed(self, record):
        found = self._features.deserialize_example(record, decoders=self._read_parts.decoders)
        return {"image": found[self._image_key], "label": self._label(found[self._label_key])}


class NamedSource(_Prepared):
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


class NamedMapsSource(_Prepared):
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
