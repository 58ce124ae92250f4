"""`tfds:NAME`: datasets of TensorFlow Datasets with one label per image, and known ones with masks or boxes."""

import tensorflow as tf
import tensorflow_datasets as tfds

from convzoo.data.source import IGNORED
from convzoo.data.tfds_prepare import make_builder, prepared_builder
from convzoo.data.tfrecord_source import TFRecordSource
from convzoo.errors import DataError

_TFRECORD = tfds.core.FileFormat.TFRECORD

# Segmentation datasets: the feature with the mask, the value of its first class, and the classes from that value on.
_SEGMENTATION = {"oxford_iiit_pet": ("segmentation_mask", 1, ("pet", "background", "border"))}
# Detection datasets: the feature of each box that marks those which do not count, the feature with areas, and the
# largest number of boxes of an image, with a margin.
_DETECTION = {"coco": ("is_crowd", "area", 100), "voc": ("is_difficult", None, 64)}


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
    if names == [str(number) for number in range(len(names))]:
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
        super().__init__(
            spec,
            class_names,
            {
                name: [(str(file.filename), file.take) for file in info.file_instructions]
                for name, info in builder.info.splits.items()
            },
            self._parse_record,
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


class TfdsSource(_PreparedSource):
    """A TFDS dataset of images with one label each.

    Args:
        spec: str.
        builder: Prepared tfds.core.DatasetBuilder.

    Raises:
        DataError: The dataset has no image with one label.
    """

    def __init__(self, spec, builder):
        super().__init__(spec, builder, *_image_and_label(spec, builder))


def _image_and_label(spec, builder):
    """Returns the names of the features with the image and its label, and the class names."""
    features = dict(builder.info.features.items())
    keys = builder.info.supervised_keys
    keys = keys if keys and len(keys) == 2 and all(isinstance(key, str) for key in keys) else ("image", "label")
    image, label = map(features.get, keys)
    if not isinstance(image, tfds.features.Image) or not isinstance(label, tfds.features.ClassLabel):
        types = ", ".join(f"{name}: {type(feature).__name__}" for name, feature in features.items())
        raise DataError(f"source {spec!r} has no Image with a ClassLabel but {types}; choose another dataset")
    if not label.num_classes:
        raise DataError(f"source {spec!r} does not state its number of classes; choose another dataset")
    return *keys, label.names


class TfdsSegmentationSource(_PreparedSource):
    """A TFDS dataset of images with a label for every pixel.

    Args:
        spec: str.
        builder: Prepared tfds.core.DatasetBuilder.
        label_key: Feature with the segmentation mask.
        first_class: Mask value of the first class. Values of no class become IGNORED.
        class_names: Sequence of str.
    """

    def __init__(self, spec, builder, label_key, first_class, class_names):
        super().__init__(spec, builder, "image", label_key, class_names, label_kind="map")
        self._first_class = first_class

    def _convert_label(self, label):
        label = tf.cast(label[..., 0], tf.int32) - self._first_class
        is_class = (label >= 0) & (label < self.num_classes)
        return tf.cast(tf.where(is_class, label, IGNORED), tf.uint8)


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
