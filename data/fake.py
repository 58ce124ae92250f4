"""`fake`: noise with labels, for tests and timing."""

import tensorflow as tf

from convzoo.data.options import parse_options
from convzoo.data.source import IndexedSource

_DEFAULTS = {"classes": 1000, "size": 224, "examples": 1024}


def open_fake(spec, options, data_dir):
    """Opens `fake` or `fake:classes=10,size=32,examples=256`: the same noise on every machine, with nothing to learn.

    Args:
        spec: The whole source string.
        options: The part after `fake:`: `classes` (1,000), `size` in pixels per side (224), `examples` per split
            (1,024).
        data_dir: Unused.

    Returns:
        IndexedSource with splits train and test. Example i of a split has label i % classes and an unrelated image.

    Raises:
        DataError: An option is unknown or not a positive integer.

    Example:
        >>> from convzoo import data
        >>> source = data.open_source("fake:classes=3,size=8,examples=5")
        >>> [int(example["label"]) for example in source.dataset("train")]
        [0, 1, 2, 0, 1]
    """
    del data_dir
    values = parse_options(spec, options, _DEFAULTS)
    classes, size, examples = (values[name] for name in _DEFAULTS)

    def read_row(row):
        words = -(-size * size * 3 // 4)
        noise = tf.random.stateless_uniform([words], tf.stack([0, row]), None, None, tf.uint32)  # full range
        noise = tf.reshape(tf.bitcast(noise, tf.uint8), [-1])[: size * size * 3]
        return {"image": tf.reshape(noise, [size, size, 3]), "label": row % examples % classes}

    splits = {"train": examples, "test": examples}
    return IndexedSource(spec, [str(label) for label in range(classes)], splits, read_row)
