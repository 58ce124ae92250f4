"""Geometric operations on uint8 [height, width, 3] images, equal to PIL's Image.transform and Image.rotate.

All return an image of the same type and shape. They take the nearest pixel; `fill` is the gray level of pixels from
outside the image. Other arguments are float or float32 [].
"""

import math

import tensorflow as tf

from convzoo.data.color import reshape_like, static_or_dynamic_size

_ONE = 1 << 16  # 1 in PIL's fixed-point coordinates


def shear_x(image, level, fill):
    """Shifts row y to the left by level * y pixels, to the right for a negative level."""
    image = tf.convert_to_tensor(image, tf.uint8)
    height, width = static_or_dynamic_size(image)
    columns = tf.range(1, width + 1)[tf.newaxis, :] + _shear_shifts(level, height)[:, tf.newaxis]
    return _gather(image, tf.range(1, height + 1)[:, tf.newaxis], columns, fill)


def shear_y(image, level, fill):
    """Shifts column x upwards by level * x pixels, downwards for a negative level."""
    image = tf.convert_to_tensor(image, tf.uint8)
    height, width = static_or_dynamic_size(image)
    rows = tf.range(1, height + 1)[:, tf.newaxis] + _shear_shifts(level, width)[tf.newaxis, :]
    return _gather(image, rows, tf.range(1, width + 1)[tf.newaxis, :], fill)


def translate_x(image, pixels, fill):
    """Shifts an image to the left by `pixels`, rounded to an integer; to the right if negative."""
    image = tf.convert_to_tensor(image, tf.uint8)
    height, width = static_or_dynamic_size(image)
    shift = 3 * _round_shift(pixels, width)
    left, right = tf.maximum(-shift, 0), tf.maximum(shift, 0)
    rows = tf.pad(tf.reshape(image, [height, 3 * width]), [[0, 0], [left, right]], constant_values=fill)
    return reshape_like(rows[:, right : right + 3 * width], image)


def translate_y(image, pixels, fill):
    """Shifts an image upwards by `pixels`, rounded to an integer; downwards if negative."""
    image = tf.convert_to_tensor(image, tf.uint8)
    height, width = static_or_dynamic_size(image)
    shift = _round_shift(pixels, height)
    top, bottom = tf.maximum(-shift, 0), tf.maximum(shift, 0)
    rows = tf.pad(tf.reshape(image, [height, 3 * width]), [[top, bottom], [0, 0]], constant_values=fill)
    return reshape_like(rows[bottom : bottom + height], image)


def rotate(image, degrees, fill):
    """Rotates an image counter-clockwise about its center."""
    image = tf.convert_to_tensor(image, tf.uint8)
    height, width = static_or_dynamic_size(image)
    angle = tf.cast(degrees, tf.float64) * (-math.pi / 180.0)
    cosine, sine = tf.cos(angle), tf.sin(angle)
    center_x, center_y = tf.cast(width, tf.float64) / 2.0, tf.cast(height, tf.float64) / 2.0
    # Source position of the first pixel's center; each step adds a sine and a cosine.
    x, y = 0.5 - center_x, 0.5 - center_y
    first_x = _to_fixed(cosine * x + sine * y + center_x) + _ONE
    first_y = _to_fixed(cosine * y - sine * x + center_y) + _ONE
    column, row = tf.range(width), tf.range(height)
    columns = (row * _to_fixed(sine) + first_x)[:, tf.newaxis] + (column * _to_fixed(cosine))[tf.newaxis, :]
    rows = (row * _to_fixed(cosine) + first_y)[:, tf.newaxis] + (column * _to_fixed(-sine))[tf.newaxis, :]
    return _gather(image, _integer_part(rows), _integer_part(columns), fill)


def _shear_shifts(level, length):
    """Returns the shift in pixels of each of `length` rows or columns, int32 [length]."""
    slope = tf.cast(level, tf.float64)
    return (_to_fixed(0.5 + 0.5 * slope) + tf.range(length) * _to_fixed(slope)) // _ONE


def _gather(image, rows, columns, fill):
    """Gathers pixels at rows and columns, counted from 1, int32 broadcast to [height, width]; others get `fill`."""
    height, width = static_or_dynamic_size(image)
    padded = tf.pad(image, [[1, 1], [1, 1], [0, 0]], constant_values=fill)
    rows = tf.clip_by_value(rows, 0, height + 1)
    columns = tf.clip_by_value(columns, 0, width + 1)
    indices = tf.reshape(rows * (width + 2) + columns, [-1, 1])
    # gather_nd, because tf.gather takes 1.5 times as long for short rows.
    return reshape_like(tf.gather_nd(tf.reshape(padded, [-1, 3]), indices), image)


def _to_fixed(value):
    """Converts float64 to PIL's fixed-point int32 with 16 fractional bits."""
    return tf.cast(tf.floor(value * _ONE + 0.5), tf.int32)


def _integer_part(value):
    """Rounds a fixed-point int32 down: takes its upper two bytes, which is faster than a shift."""
    return tf.cast(tf.bitcast(value, tf.int16)[..., 1], tf.int32)


def _round_shift(pixels, side):
    """Rounds to int32 from -side to side."""
    return tf.clip_by_value(tf.cast(tf.floor(tf.cast(pixels, tf.float64) + 0.5), tf.int32), -side, side)
