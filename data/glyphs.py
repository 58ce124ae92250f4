"""`glyphs`: drawings of a few strokes, generated when read, with as many identities as wanted: for verification."""

import tensorflow as tf

from convzoo.data.options import parse_options
from convzoo.data.source import IndexedSource

_DEFAULTS = {"classes": 256, "first": 1, "size": 32, "examples": 16}
_STROKES = 4
_WIDTH = 0.05  # half of a stroke's, in units of the image's side
_JITTER = 0.05  # largest shift of the end of a stroke, likewise
_ANGLE, _SCALE, _SHIFT = 0.25, 0.15, 0.08  # largest rotation in radians, change of size, shift of the whole drawing
_NOISE = 40.0  # maximum absolute value, in gray levels


def open_glyphs(spec, options, data_dir):
    """Opens `glyphs` or `glyphs:classes=256,first=1,size=32,examples=16`: the same images on every machine.

    A class is an arrangement of four strokes. Its images shift the ends of the strokes, rotate, scale and shift the
    drawing, and differ in contrast and noise. Sources with other classes have other arrangements: `glyphs:classes=100`
    and `glyphs:classes=50,first=101` have none in common.

    Args:
        spec: The whole source string.
        options: The part after `glyphs:`: number of `classes` (256), number of the `first` one (1), `size` in pixels
            per side (32), `examples` of each class (16). The split test has a quarter as many, all different.
        data_dir: Unused.

    Returns:
        IndexedSource with splits train and test.

    Raises:
        DataError: An option is unknown or not a positive integer.

    Example:
        >>> from convzoo import data
        >>> source = data.open_source("glyphs:classes=3,first=101,examples=8")
        >>> source.class_names, source.splits
        (['101', '102', '103'], {'train': 24, 'test': 6})
    """
    del data_dir
    values = parse_options(spec, options, _DEFAULTS)
    classes, first, size, examples = (values[name] for name in _DEFAULTS)
    splits = {"train": classes * examples, "test": classes * -(-examples // 4)}

    def read_row(row):
        label = row % classes
        number = tf.cast(row // classes, tf.int64)  # over both splits
        return {"image": _draw(label + first, number, size), "label": label}

    return IndexedSource(spec, [str(first + label) for label in range(classes)], splits, read_row)


def _draw(glyph, number, size):
    """Returns image `number` of a glyph, uint8 [size, size, 3]."""
    # The negative number is that of no image.
    strokes = tf.random.stateless_uniform([_STROKES, 2, 2], tf.stack([glyph, tf.constant(-1, tf.int64)]), -0.3, 0.3)
    of_ends, of_drawing, of_pixels = tf.unstack(tf.random.split(tf.stack([glyph, number]), 3))
    strokes += tf.random.stateless_uniform(strokes.shape, of_ends, -_JITTER, _JITTER)
    samples = tf.random.stateless_uniform([6], of_drawing, -1.0, 1.0)
    angle, scale, shift = _ANGLE * samples[0], 1.0 + _SCALE * samples[1], _SHIFT * samples[2:4]
    rotation = tf.reshape(tf.stack([tf.cos(angle), -tf.sin(angle), tf.sin(angle), tf.cos(angle)]), [2, 2])
    strokes = tf.einsum("sek,kl->sel", scale * strokes, rotation) + shift + 0.5
    centers = (tf.range(size, dtype=tf.float32) + 0.5) / size
    pixels = tf.stack(tf.meshgrid(centers, centers), -1)[:, :, tf.newaxis]  # [y, x, 1, 2]
    # Distance from each pixel to the nearest point of each stroke.
    begin, along = strokes[:, 0], strokes[:, 1] - strokes[:, 0]
    share = tf.reduce_sum((pixels - begin) * along, -1) / tf.maximum(tf.reduce_sum(along**2, -1), 1e-6)
    nearest = begin + tf.clip_by_value(share, 0.0, 1.0)[..., tf.newaxis] * along
    distance = tf.reduce_min(tf.norm(pixels - nearest, axis=-1), -1)
    ink = tf.clip_by_value((_WIDTH - distance) * size + 0.5, 0.0, 1.0)  # of the pixel, with smooth edges
    gray = 60.0 + 20.0 * samples[4] + (120.0 + 40.0 * samples[5]) * ink
    gray += tf.random.stateless_uniform([size, size], of_pixels, -_NOISE, _NOISE)
    gray = tf.cast(tf.clip_by_value(tf.round(gray), 0.0, 255.0), tf.uint8)
    return tf.tile(gray[..., tf.newaxis], [1, 1, 3])
