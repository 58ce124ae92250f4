"""Labels of every kind through the geometric operations on their image.

Inside the pipelines, a label is a tensor of one class, int [], a map, uint8 [height, width], or a dict of boxes, see
`Source`.
"""

import tensorflow as tf

from convzoo.data.source import IGNORED


def kind_of(label):
    """Returns the LabelKind of a label."""
    if isinstance(label, dict):
        return "boxes"
    return "map" if label.shape.rank == 2 else "class"


def without_crowds(label):
    """Returns a label of boxes without those of crowds; others unchanged."""
    if kind_of(label) != "boxes":
        return label
    is_object = tf.logical_not(label["is_crowd"])
    return {name: tf.boolean_mask(values, is_object) for name, values in label.items()}


def crop(label, window, shape):
    """Crops a label with its image. Boxes whose center lies outside are removed, the others are clipped.

    Args:
        label: The label.
        window: int32 [4]: top, left, height, width in pixels.
        shape: int32 [3], the image's height, width, channels.
    """
    top, left, height, width = tf.unstack(window)
    if kind_of(label) == "map":
        return label[top : top + height, left : left + width]
    if kind_of(label) == "class":
        return label
    begin, size, whole = (tf.cast(pair, tf.float32) for pair in (window[:2], window[2:], shape[:2]))
    boxes = (label["boxes"] * tf.tile(whole, [2]) - tf.tile(begin, [2])) / tf.tile(size, [2])
    center = (boxes[:, :2] + boxes[:, 2:]) / 2.0
    is_inside = tf.reduce_all((center >= 0.0) & (center < 1.0), -1)
    label = {**label, "boxes": tf.clip_by_value(boxes, 0.0, 1.0)}
    return {name: tf.boolean_mask(values, is_inside) for name, values in label.items()}


def mirror(label):
    """Mirrors a label left to right."""
    if kind_of(label) == "map":
        return tf.reverse(label, [1])
    if kind_of(label) == "class":
        return label
    top, left, bottom, right = tf.unstack(label["boxes"], axis=-1)
    return {**label, "boxes": tf.stack([top, 1.0 - right, bottom, 1.0 - left], -1)}


def resize(label, image_size):
    """Resizes a map to int32 [*image_size] by nearest neighbor. Boxes and classes do not depend on the size."""
    if kind_of(label) != "map":
        return label
    label = tf.image.resize(label[..., tf.newaxis], image_size, method="nearest")
    return tf.cast(label[..., 0], tf.int32)


def pad(label, label_size):
    """Returns a map at its own size in one of static size: a dict of "map" int32 [*label_size] and "size" int32 [2]."""
    padded = fill(tf.cast(label, tf.int32), label_size, IGNORED)
    return {"map": padded, "size": tf.ensure_shape(tf.shape(label), [2])}


def fill(values, size, value):
    """Returns an image or a map, [height, width, ...], at the top left of one of a static size filled with `value`.

    What is larger is cut off; `stages.check_size` makes that an error.
    """
    values = values[: size[0], : size[1]]
    missing = tf.pad(tf.constant(size) - tf.shape(values)[:2], [[0, values.shape.rank - 2]])
    padded = tf.pad(
        values, tf.stack([tf.zeros_like(missing), missing], 1), constant_values=tf.cast(value, values.dtype)
    )
    return tf.ensure_shape(padded, [*size, *values.shape[2:]])


def to_static_shape(label, image_size, max_boxes):
    """Returns a label for batches, of static shapes, because TPUs compile for one shape.

    Args:
        label: The label, after `resize`.
        image_size: (height, width) of the image.
        max_boxes: Number of slots for boxes; None without boxes.

    Returns:
        A class or map as int32. For boxes a dict: "boxes" float32 [max_boxes, 4], "classes" int32 [max_boxes] and, if
        the label has them, "areas" float32 [max_boxes], padded with zeros; the first "count" (int32 []) are objects,
        the next "num_crowds" (int32 []) are crowds.
    """
    if kind_of(label) != "boxes":
        return tf.ensure_shape(tf.cast(label, tf.int32), image_size if label.shape.rank == 2 else [])
    label = dict(label)
    is_crowd = label.pop("is_crowd")
    order = tf.argsort(tf.cast(is_crowd, tf.int32), stable=True)[:max_boxes]
    padded = {}
    for name, values in label.items():
        values = tf.gather(values, order)
        padding = [[0, max_boxes - tf.shape(values)[0]], *[[0, 0]] * (values.shape.rank - 1)]
        padded[name] = tf.ensure_shape(tf.pad(values, padding), [max_boxes, *values.shape[1:]])
    is_crowd = tf.gather(is_crowd, order)
    num_crowds = tf.reduce_sum(tf.cast(is_crowd, tf.int32))
    counts = {"count": tf.size(is_crowd) - num_crowds, "num_crowds": num_crowds}
    return {**padded, "classes": tf.cast(padded["classes"], tf.int32), **counts}
