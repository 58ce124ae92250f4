"""`shapes`: discs, squares and triangles on noise, with the class of every pixel; made as they are read."""

import tensorflow as tf

from convzoo.data.base import IndexedSource
from convzoo.data.options import whole_numbers

CLASSES = ("background", "disc", "square", "triangle")
_DEFAULTS = {"size": 64, "examples": 2048}
_SHAPES = 3  # in each picture; the later lie over the earlier
_NOISE = 40.0  # grey levels to both sides


def open_shapes(spec, options, data_dir):
    """Open `shapes` or `shapes:size=64,examples=2048`: the same pictures on every machine.

    Args:
        spec: str, the whole source string.
        options: str, the part behind `shapes:`; `size` in pixels of a side (64) and `examples` of the split train
            (2,048), of which the split test has a quarter as many others.
        data_dir: unused; nothing is stored.

    Returns:
        Source with splits train and test, whose labels are maps of CLASSES.

    Raises:
        DataError: an option is unknown or not a positive whole number.
    """
    del data_dir
    values = whole_numbers(spec, options, _DEFAULTS)
    splits = {"train": values["examples"], "test": -(-values["examples"] // 4)}
    return IndexedSource(spec, CLASSES, splits, lambda row: _draw(row, values["size"]), has_maps=True)


def _draw(row, size):
    pixel_seed, shape_seed = tf.unstack(tf.random.split(tf.stack([tf.constant(0, tf.int64), row]), 2))
    chance = tf.unstack(tf.random.stateless_uniform([_SHAPES, 7], shape_seed))
    across = tf.range(size, dtype=tf.float32)[tf.newaxis, :] + 0.5
    down = tf.range(size, dtype=tf.float32)[:, tf.newaxis] + 0.5
    # A grey ground; colours are kept away from it.
    image = tf.fill([size, size, 3], 128.0)
    label = tf.zeros([size, size], tf.int32)
    for kind, x, y, radius, *colour in (tf.unstack(numbers) for numbers in chance):
        kind = tf.cast(kind * (len(CLASSES) - 1), tf.int32)
        radius = size * (0.15 + 0.15 * radius)
        dx, dy = across - size * (0.15 + 0.7 * x), down - size * (0.15 + 0.7 * y)
        disc = dx**2 + dy**2 < radius**2
        square = tf.maximum(tf.abs(dx), tf.abs(dy)) < 0.9 * radius
        triangle = (tf.abs(dx) < 0.6 * (dy + radius)) & (dy < 0.8 * radius)
        inside = tf.stack([disc, square, triangle])[kind]
        colour = tf.stack(colour)
        colour = tf.where(colour < 0.5, 100.0 * colour, 255.0 - 100.0 * (1.0 - colour))
        image = tf.where(inside[..., tf.newaxis], colour, image)
        label = tf.where(inside, kind + 1, label)
    image += tf.random.stateless_uniform([size, size, 3], pixel_seed, -_NOISE, _NOISE)
    image = tf.cast(tf.clip_by_value(tf.round(image), 0.0, 255.0), tf.uint8)
    return {"image": image, "label": tf.cast(label, tf.uint8)}
