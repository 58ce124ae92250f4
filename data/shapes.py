"""`shapes`: discs, squares and triangles on noise, with a label for every pixel; generated when read."""

import tensorflow as tf

from convzoo.data.options import parse_options
from convzoo.data.source import IndexedSource

CLASSES = ("background", "disc", "square", "triangle")
_DEFAULTS = {"size": 64, "examples": 2048}
_SHAPES_PER_IMAGE = 3  # later shapes cover earlier ones
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
        >>> source = data.open_source("shapes:size=16,examples=8", dense_labels=True)
        >>> next(iter(source.dataset("train")))["label"].shape, source.class_names[1]
        (TensorShape([16, 16]), 'disc')
    """
    del data_dir
    values = parse_options(spec, options, _DEFAULTS)
    splits = {"train": values["examples"], "test": -(-values["examples"] // 4)}
    return IndexedSource(spec, CLASSES, splits, lambda row: _draw(row, values["size"]), dense_labels=True)


def _draw(row, size):
    """Returns the example of a row (int64 [])."""
    pixel_seed, shape_seed = tf.unstack(tf.random.split(tf.stack([tf.constant(0, tf.int64), row]), 2))
    samples = tf.unstack(tf.random.stateless_uniform([_SHAPES_PER_IMAGE, 7], shape_seed))
    x_pixels = tf.range(size, dtype=tf.float32)[tf.newaxis, :] + 0.5
    y_pixels = tf.range(size, dtype=tf.float32)[:, tf.newaxis] + 0.5
    image = tf.fill([size, size, 3], 128.0)
    label = tf.zeros([size, size], tf.int32)
    for kind, x, y, radius, *color in map(tf.unstack, samples):
        kind = tf.cast(kind * (len(CLASSES) - 1), tf.int32)
        radius = size * (0.15 + 0.15 * radius)
        dx, dy = x_pixels - size * (0.15 + 0.7 * x), y_pixels - size * (0.15 + 0.7 * y)
        disc = dx**2 + dy**2 < radius**2
        square = tf.maximum(tf.abs(dx), tf.abs(dy)) < 0.9 * radius
        triangle = (tf.abs(dx) < 0.6 * (dy + radius)) & (dy < 0.8 * radius)
        inside = tf.stack([disc, square, triangle])[kind]
        color = tf.stack(color)
        color = tf.where(color < 0.5, 100.0 * color, 255.0 - 100.0 * (1.0 - color))  # far from the background's gray
        image = tf.where(inside[..., tf.newaxis], color, image)
        label = tf.where(inside, kind + 1, label)
    image += tf.random.stateless_uniform([size, size, 3], pixel_seed, -_NOISE, _NOISE)
    image = tf.cast(tf.clip_by_value(tf.round(image), 0.0, 255.0), tf.uint8)
    return {"image": image, "label": tf.cast(label, tf.uint8)}
