"""Discs, squares and triangles on noise, generated when read: `shapes` has a class per pixel, `shapes_boxes` boxes."""

import tensorflow as tf

from convzoo.data.options import parse_options
from convzoo.data.source import IndexedSource

SHAPES = ("disc", "square", "triangle")
CLASSES = ("background", *SHAPES)
_DEFAULTS = {"size": 64, "examples": 2048}
_SHAPES_PER_IMAGE = 3  # later shapes cover earlier ones
_BOXES_DEFAULTS = {"size": 128, "examples": 4096}
_MAX_BOXES = 6  # of an image
_SIDES = (0.05, 0.8)  # of a shape, in units of the image's side
_MIN_VISIBLE = 0.5  # share of its pixels; other shapes cover the rest
_NOISE = 40.0  # maximum absolute value, in gray levels


def open_shapes(spec, options, data_dir):
    """Opens `shapes` or `shapes:size=64,examples=2048`: the same images on every machine.

    Args:
        spec: The whole source string.
        options: The part after `shapes:`: `size` in pixels per side (64), `examples` of the split train (2,048). The
            split test has a quarter as many, all different.
        data_dir: Unused.

    Returns:
        IndexedSource with splits train and test and dense labels of CLASSES.

    Raises:
        DataError: An option is unknown or not a positive integer.

    Example:
        >>> from convzoo import data
        >>> source = data.open_source("shapes:size=16,examples=8", label_kind="map")
        >>> next(iter(source.dataset("train")))["label"].shape, source.class_names[1]
        (TensorShape([16, 16]), 'disc')
    """
    del data_dir
    values = parse_options(spec, options, _DEFAULTS)
    splits = {"train": values["examples"], "test": -(-values["examples"] // 4)}
    return IndexedSource(spec, CLASSES, splits, lambda row: _draw(row, values["size"]), label_kind="map")


def open_shapes_boxes(spec, options, data_dir):
    """Opens `shapes_boxes` or `shapes_boxes:size=128,examples=4096`: the same images on every machine.

    An image has one to six shapes, the small ones in front. Their sizes are evenly distributed from 5 % to 80 % of the
    image's side; sides of boxes are up to a tenth smaller or larger, and parts outside the image are cut off. A box
    encloses its whole shape within the image, and at least half of that is visible. In images of a few pixels, a shape
    can be too small for any pixel and is left out.

    Args:
        spec: The whole source string.
        options: The part after `shapes_boxes:`: `size` in pixels per side (128), `examples` of the split train (4,096).
            The split test has a quarter as many, all different.
        data_dir: Unused.

    Returns:
        IndexedSource with splits train and test and boxes of SHAPES.

    Raises:
        DataError: An option is unknown or not a positive integer.

    Example:
        >>> from convzoo import data
        >>> source = data.open_source("shapes_boxes:size=64,examples=8", label_kind="boxes")
        >>> source.class_names, source.max_boxes
        (['disc', 'square', 'triangle'], 6)
    """
    del data_dir
    values = parse_options(spec, options, _BOXES_DEFAULTS)
    splits = {"train": values["examples"], "test": -(-values["examples"] // 4)}

    def read_row(row):
        return _draw_boxes(row, values["size"])

    return IndexedSource(spec, SHAPES, splits, read_row, label_kind="boxes", max_boxes=_MAX_BOXES)


def _draw(row, size):
    """Returns the example of a row (int64 []) with a class per pixel."""
    pixel_seed, shape_seed = _seeds(0, row)
    samples = tf.unstack(tf.random.stateless_uniform([_SHAPES_PER_IMAGE, 7], shape_seed))
    x_pixels, y_pixels = _pixel_centers(size)
    image = tf.fill([size, size, 3], 128.0)
    label = tf.zeros([size, size], tf.int32)
    for kind, x, y, radius, *color in map(tf.unstack, samples):
        kind = tf.cast(kind * (len(CLASSES) - 1), tf.int32)
        radius = size * (0.15 + 0.15 * radius)
        dx, dy = x_pixels - size * (0.15 + 0.7 * x), y_pixels - size * (0.15 + 0.7 * y)
        inside = _insides(dx, dy, radius)[kind]
        image = tf.where(inside[..., tf.newaxis], _color(tf.stack(color)), image)
        label = tf.where(inside, kind + 1, label)
    return {"image": _add_noise(image, pixel_seed), "label": tf.cast(label, tf.uint8)}


def _draw_boxes(row, size):
    """Returns the example of a row (int64 []) with boxes."""
    pixel_seed, shape_seed = _seeds(1, row)
    samples = tf.random.stateless_uniform([_MAX_BOXES + 1, 7], shape_seed)
    count = 1 + tf.cast(samples[-1, 0] * _MAX_BOXES, tf.int32)
    kinds, x, y, side = (values[:, tf.newaxis, tf.newaxis] for values in tf.unstack(samples[:-1, :4], axis=1))
    kinds = tf.cast(kinds * len(SHAPES), tf.int32)
    # Large shapes first, so that small ones are in front of them.
    side = size * (_SIDES[0] + (_SIDES[1] - _SIDES[0]) * tf.sort(side, 0, "DESCENDING"))
    low, high = 0.25 * side, size - 0.25 * side  # a quarter of a shape may be outside the image
    x_pixels, y_pixels = _pixel_centers(size)
    dx, dy = x_pixels - (low + (high - low) * x), y_pixels - (low + (high - low) * y)
    inside = tf.where(
        kinds == tf.range(len(SHAPES))[:, tf.newaxis, tf.newaxis, tf.newaxis], _insides(dx, dy, side / 2.0), False
    )
    inside = tf.reduce_any(inside, 0) & (tf.range(_MAX_BOXES) < count)[:, tf.newaxis, tf.newaxis]  # [box, y, x]
    is_covered = tf.cumsum(tf.cast(inside, tf.int32), 0, exclusive=True, reverse=True) > 0
    visible = tf.cast(tf.math.count_nonzero(inside & ~is_covered, [1, 2]), tf.float32)
    is_object = visible > _MIN_VISIBLE * tf.cast(tf.math.count_nonzero(inside, [1, 2]), tf.float32)
    inside, kinds = tf.boolean_mask(inside, is_object), tf.boolean_mask(kinds[:, 0, 0], is_object)
    colors = _color(tf.boolean_mask(samples[:-1, 4:], is_object))
    # The number of the frontmost shape at each pixel, from 1; 0 for the background.
    numbers = tf.where(inside, tf.range(1, tf.size(kinds) + 1)[:, tf.newaxis, tf.newaxis], 0)
    front = tf.maximum(tf.reduce_max(numbers, 0), 0)  # the maximum of no shapes is negative
    image = tf.gather(tf.concat([tf.fill([1, 3], 128.0), colors], 0), front)
    ends = [_ends(tf.reduce_any(inside, axis)) for axis in (2, 1)]
    boxes = tf.stack([ends[0][0], ends[1][0], ends[0][1], ends[1][1]], -1) / size
    label = {"boxes": boxes, "classes": tf.cast(kinds, tf.int64), "is_crowd": tf.zeros_like(kinds, tf.bool)}
    return {"image": _add_noise(tf.ensure_shape(image, [size, size, 3]), pixel_seed), "label": label}


def _ends(is_covered):
    """Returns the first covered position of each row and the one after the last, float32 [rows] each."""
    first = tf.argmax(tf.cast(is_covered, tf.int32), -1)
    last = is_covered.shape[-1] - tf.argmax(tf.cast(tf.reverse(is_covered, [-1]), tf.int32), -1)
    return tf.cast(first, tf.float32), tf.cast(last, tf.float32)


def _seeds(source, row):
    """Returns the seeds of the pixels and of the shapes of an image; 0 and 1 for `source` give different images."""
    return tf.unstack(tf.random.split(tf.stack([tf.constant(source, tf.int64), row]), 2))


def _pixel_centers(size):
    """Returns the coordinates x [1, size] and y [size, 1] of the centers of the pixels."""
    centers = tf.range(size, dtype=tf.float32) + 0.5
    return centers[tf.newaxis, :], centers[:, tf.newaxis]


def _insides(dx, dy, radius):
    """Returns which pixels each of SHAPES covers, bool [shapes, ...], from their distances to its center."""
    disc = dx**2 + dy**2 < radius**2
    square = tf.maximum(tf.abs(dx), tf.abs(dy)) < 0.9 * radius
    triangle = (tf.abs(dx) < 0.6 * (dy + radius)) & (dy < 0.8 * radius)
    return tf.stack([disc, square, triangle])


def _color(samples):
    """Returns colors far from the background's gray, [..., 3] on 0..255, from uniform samples."""
    return tf.where(samples < 0.5, 100.0 * samples, 255.0 - 100.0 * (1.0 - samples))


def _add_noise(image, seed):
    image += tf.random.stateless_uniform(image.shape, seed, -_NOISE, _NOISE)
    return tf.cast(tf.clip_by_value(tf.round(image), 0.0, 255.0), tf.uint8)
