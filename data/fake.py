"""`fake`: noise with labels, for tests and for timing."""

import tensorflow as tf

from convzoo.data.base import IndexedSource
from convzoo.data.options import whole_numbers

_DEFAULTS = {"classes": 1000, "size": 224, "examples": 1024}


def open_fake(spec, options, data_dir):
    """Open `fake` or `fake:classes=10,size=32,examples=256`: the same noise on every machine, with nothing to learn.

    Args:
        spec: str, the whole source string.
        options: str, the part behind `fake:`; `classes` (1,000), `size` in pixels of a side (224) and `examples` of
            each split (1,024).
        data_dir: unused; nothing is stored.

    Returns:
        Source with splits train and test; example i of a split has label i % classes and a picture that knows nothing
        of it.

    Raises:
        DataError: an option is unknown or not a positive whole number.
    """
    del data_dir
    values = whole_numbers(spec, options, _DEFAULTS)
    classes, size, examples = (values[name] for name in _DEFAULTS)

    def example(row):
        words = -(-size * size * 3 // 4)
        noise = tf.random.stateless_uniform([words], tf.stack([0, row]), None, None, tf.uint32)  # full range
        noise = tf.reshape(tf.bitcast(noise, tf.uint8), [-1])[: size * size * 3]
        return {"image": tf.reshape(noise, [size, size, 3]), "label": row % examples % classes}

    return IndexedSource(spec, [str(label) for label in range(classes)], {"train": examples, "test": examples}, example)
