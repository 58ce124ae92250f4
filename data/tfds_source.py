"""`tfds:NAME`: datasets of TensorFlow Datasets with one label per image, and known ones with masks or boxes."""

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from convzoo.data.source import IGNORED
from convzoo.data.tfds_prepare import make_builder, prepared_builder
from convzoo.data.tfrecord_source import TFRecordSource
from convzoo.errors import DataError

_TFRECORD = tfds.core.FileFormat.TFRECORD

# The values of Cityscapes' labels that its benchmark evaluates, and their names.
_CITYSCAPES = {
    **{7: "road", 8: "sidewalk", 11: "building", 12: "wall", 13: "fence", 17: "pole", 19: "traffic light"},
    **{20: "traffic sign", 21: "vegetation", 22: "terrain", 23: "sky", 24: "person", 25: "rider", 26: "car"},
    **{27: "truck", 28: "bus", 31: "train", 32: "motorcycle", 33: "bicycle"},
}
# Segmentation datasets: the features with the image and the mask, and the classes by their values in the mask.
_SEGMENTATION = {
    "cityscapes": ("image_left", "segmentation_label", _CITYSCAPES),
    "oxford_iiit_pet": ("image", "segmentation_mask", {1: "pet", 2: "background", 3: "border"}),
    "scene_parse150": ("image", "annotation", {value: str(value) for value in range(1, 151)}),
}
# Detection datasets: the feature of each box that marks those which do not count, the feature with areas, and the
# largest number of boxes of an image, with a margin.
_DETECTION = {"coco": ("is_crowd", "area", 100), "voc": ("is_difficult", None, 64)}

# Features with the name of an image, the first that a dataset has.
_NAMES = ("file_name", "filename", "image/filename", "image_name", "id")


def open_tfds(spec, name, data_dir):
    """Opens `tfds:NAME`, `tfds:NAME:VERSION` or `tfds:NAME/CONFIG:VERSION`, and prepares it first if necessary.

    Args:
        spec: The whole source string.
        name: The part after `tfds:`.
        data_dir: Folder in which TFDS stores its datasets, or None for its default.

    Returns:
        TfdsSource with the splits of the dataset.

    Raises:
        DataError: The name is unknown, the dataset cannot be prepared, or it has no images with one label.

    Example:
        >>> from convzoo import data
        >>> data.open_source("tfds:digits").splits
        {'train': 1438, 'test': 359}
    """
    if not name:
        raise DataError(f"source {spec!r} has no dataset name; use for example tfds:cifar10")
    return TfdsSource(spec, prepared_builder(spec, lambda: tfds.builder(name, data_dir=data_dir)))


def tfds_class_names(spec, name, data_dir, label_kind="class"):
    """Returns the class names of a TFDS dataset of labeled images or of one with boxes.

    The dataset is prepared only if its metadata has no names: some datasets read them from their downloads, and until
    then number their classes. Arguments and errors as for `open_tfds`.

    Example:
        >>> tfds_class_names("tfds:imagenet2012", "imagenet2012", None)[:2]
        ['n01440764', 'n01443537']
    """
    builder = make_builder(spec, lambda: tfds.builder(name, data_dir=data_dir))
    if label_kind == "boxes":
        _description(spec, name, _DETECTION, "detection")
        return builder.info.features["objects"]["label"].names
    names = _image_and_label(spec, builder)[2]
    if names is None or names == [str(number) for number in range(len(names))]:
        return open_tfds(spec, name, data_dir).class_names
    return names


def open_tfds_segmentation(spec, name, data_dir):
    """Opens one of the known segmentation datasets of TensorFlow Datasets; arguments and errors as for `open_tfds`."""
    description = _description(spec, name, _SEGMENTATION, "segmentation")
    builder = prepared_builder(spec, lambda: tfds.builder(name, data_dir=data_dir))
    return TfdsSegmentationSource(spec, builder, *description)


def open_tfds_detection(spec, name, data_dir):
    """Opens one of the known detection datasets of TensorFlow Datasets; arguments and errors as for `open_tfds`."""
    description = _description(spec, name, _DETECTION, "detection")
    builder = prepared_builder(spec, lambda: tfds.builder(name, data_dir=data_dir))
    return TfdsDetectionSource(spec, builder, *description)


def _description(spec, name, known, kind):
    """Returns the entry of a dataset in `known`."""
    dataset = name.partition("/")[0].partition(":")[0]
    if dataset not in known:
        available = ", ".join(known)
        raise DataError(f"source {spec!r}: {dataset!r} is not a known {kind} dataset; available: {available}")
    return known[dataset]


class _PreparedSource(TFRecordSource):
    """A prepared TFDS dataset. Images stay encoded, so that cropping can skip most of the decoding."""

    def __init__(self, spec, builder, image_key, label_key, class_names, label_kind="class", max_boxes=None):
        self._image_key, self._label_key = image_key, label_key
        image = builder.info.features[image_key]
        if tf.as_dtype(image.np_dtype) not in (tf.uint8, tf.uint16):
            raise DataError(f"source {spec!r} has {image.np_dtype} images; only uint8 and uint16 are supported")
        file_format = builder.info.file_format or _TFRECORD  # old datasets do not state it
        if file_format != _TFRECORD:
            raise DataError(
                f"source {spec!r} has {file_format.value} files in {builder.data_path}; prepare it again in the format "
                f"{_TFRECORD.value}"
            )
        self._decoding = tfds.decode.PartialDecoding(
            {image_key: True, label_key: True}, decoders={image_key: tfds.decode.SkipDecoding()}
        )
        self._features = self._decoding.extract_features(builder.info.features)
        features = dict(builder.info.features.items())
        name_keys = [key for key in _NAMES if isinstance(features.get(key), tfds.features.Text)]
        super().__init__(
            spec,
            class_names,
            {
                name: [(str(file.filename), file.take) for file in info.file_instructions]
                for name, info in builder.info.splits.items()
            },
            self._parse_record,
            parse_name=_name_parser(builder.info.features, name_keys[0]) if name_keys else None,
            # The order of builder.as_dataset, which does not interleave the files of datasets with a fixed order.
            cycle_length=1 if builder.info.disable_shuffling else 16,
            label_kind=label_kind,
            max_boxes=max_boxes,
        )

    def _convert_label(self, label):
        """Returns the label of an example from the label feature of a record."""
        return label

    def _parse_record(self, record):
        example = self._features.deserialize_example(record, decoders=self._decoding.decoders)
        return {"image": example[self._image_key], "label": self._convert_label(example[self._label_key])}


def _name_parser(features, key):
    """Returns the function from a record to its feature `key`, a text."""
    decoding = tfds.decode.PartialDecoding({key: True})
    partial = decoding.extract_features(features)
    return lambda record: partial.deserialize_example(record)[key]


class TfdsSource(_PreparedSource):
    """A TFDS dataset of images with one label each, a class or a text, such as the names of people in `lfw`.

    Args:
        spec: str.
        builder: Prepared tfds.core.DatasetBuilder.

    Raises:
        DataError: The dataset has no image with one label.
    """

    def __init__(self, spec, builder):
        image_key, label_key, names = _image_and_label(spec, builder)
        self._is_text = names is None
        super().__init__(spec, builder, image_key, label_key, _texts(builder, label_key) if names is None else names)

    def _convert_label(self, label):
        # Without a table, which a data server could not initialize.
        return tf.argmax(tf.cast(label == tf.constant(self.class_names), tf.int32)) if self._is_text else label


def _image_and_label(spec, builder):
    """Returns the names of the features with the image and its label, and the class names; None for texts."""
    features = dict(builder.info.features.items())
    keys = builder.info.supervised_keys
    keys = keys if keys and len(keys) == 2 and all(isinstance(key, str) for key in keys) else ("image", "label")
    image, label = map(features.get, keys)
    if isinstance(image, tfds.features.Text) and isinstance(label, tfds.features.Image):  # lfw has the label first
        keys, image, label = keys[::-1], label, image
    if isinstance(image, tfds.features.Image) and isinstance(label, tfds.features.Text):
        return *keys, None
    if not isinstance(image, tfds.features.Image) or not isinstance(label, tfds.features.ClassLabel):
        types = ", ".join(f"{name}: {type(feature).__name__}" for name, feature in features.items())
        raise DataError(f"source {spec!r} has no Image with a ClassLabel but {types}; choose another dataset")
    if not label.num_classes:
        raise DataError(f"source {spec!r} does not state its number of classes; choose another dataset")
    return *keys, label.names


def _texts(builder, key):
    """Returns the sorted texts of a feature in all splits, which it reads for this."""
    decoding = tfds.decode.PartialDecoding({key: True})
    splits = (builder.as_dataset(split=split, decoders=decoding) for split in builder.info.splits)
    return sorted({example[key].decode() for split in splits for example in tfds.as_numpy(split)})


class TfdsSegmentationSource(_PreparedSource):
    """A TFDS dataset of images with a label for every pixel.

    Args:
        spec: str.
        builder: Prepared tfds.core.DatasetBuilder.
        image_key, label_key: Features with the image and the segmentation mask.
        classes: dict of mask value to class name. Other values become IGNORED.
    """

    def __init__(self, spec, builder, image_key, label_key, classes):
        super().__init__(spec, builder, image_key, label_key, [*classes.values()], label_kind="map")
        self._class_of = np.full(256, IGNORED, np.uint8)
        self._class_of[[*classes]] = np.arange(len(classes))

    def _convert_label(self, label):
        return tf.gather(tf.constant(self._class_of), tf.cast(label[..., 0], tf.int32))


class TfdsDetectionSource(_PreparedSource):
    """A TFDS dataset of images with boxes, in its feature "objects".

    Args:
        spec: str.
        builder: Prepared tfds.core.DatasetBuilder.
        crowd_key: Feature of a box that is True if it does not count as an object.
        area_key: Feature with the object's area in pixels, or None.
        max_boxes: Number of boxes that no image exceeds; the boxes after it are dropped.
    """

    def __init__(self, spec, builder, crowd_key, area_key, max_boxes):
        names = builder.info.features["objects"]["label"].names
        super().__init__(spec, builder, "image", "objects", names, label_kind="boxes", max_boxes=max_boxes)
        self._crowd_key, self._area_key = crowd_key, area_key

    def _convert_label(self, label):
        converted = {
            "boxes": tf.clip_by_value(label["bbox"], 0.0, 1.0),
            "classes": label["label"],
            "is_crowd": label[self._crowd_key],
        }
        if self._area_key:
            converted["areas"] = tf.cast(label[self._area_key], tf.float32)
        has_area = tf.reduce_all(converted["boxes"][:, 2:] > converted["boxes"][:, :2], -1)
        return {name: tf.boolean_mask(values, has_area) for name, values in converted.items()}
