"""Operations that move the pixels of a picture, with the results of PIL's Image.transform and Image.rotate.

All take the nearest pixel. They run once a training picture on one core of the host.
"""

import math

import tensorflow as tf

_ONE = 1 << 16  # of the fixed-point numbers in which PIL computes positions


def shear_x(image, level, fill):
    """Move each row to the left, in proportion to its distance from the top.

    Args:
        image: uint8 [height, width, 3].
        level: float or float32 [], pixels a row; negative to the right.
        fill: int, the grey level of pixels that are left empty.

    Returns:
        uint8 [height, width, 3].
    """
    image = tf.convert_to_tensor(image, tf.uint8)
    height, width = _size(image)
    slope = tf.cast(level, tf.float64)
    shifts = (_fixed(0.5 + 0.5 * slope) + tf.range(height) * _fixed(slope)) // _ONE
    columns = tf.range(1, width + 1)[tf.newaxis, :] + shifts[:, tf.newaxis]
    return _take(image, tf.range(1, height + 1)[:, tf.newaxis], columns, fill)


def shear_y(image, level, fill):
    """Move each column upwards, in proportion to its distance from the left; args and returns as `shear_x`."""
    image = tf.convert_to_tensor(image, tf.uint8)
    height, width = _size(image)
    slope = tf.cast(level, tf.float64)
    shifts = (_fixed(0.5 + 0.5 * slope) + tf.range(width) * _fixed(slope)) // _ONE
    rows = tf.range(1, height + 1)[:, tf.newaxis] + shifts[tf.newaxis, :]
    return _take(image, rows, tf.range(1, width + 1)[tf.newaxis, :], fill)


def translate_x(image, pixels, fill):
    """Move a picture to the left.

    Args:
        image: uint8 [height, width, 3].
        pixels: float or float32 [], rounded to the nearest whole number; negative to the right.
        fill: int, the grey level of pixels that are left empty.

    Returns:
        uint8 [height, width, 3].
    """
    image = tf.convert_to_tensor(image, tf.uint8)
    height, width = _size(image)
    shift = 3 * _shift(pixels, width)
    left, right = tf.maximum(-shift, 0), tf.maximum(shift, 0)
    rows = tf.pad(tf.reshape(image, [height, 3 * width]), [[0, 0], [left, right]], constant_values=fill)
    return _shaped(rows[:, right : right + 3 * width], image)


def translate_y(image, pixels, fill):
    """Move a picture upwards; args and returns as `translate_x`, negative downwards."""
    image = tf.convert_to_tensor(image, tf.uint8)
    height, width = _size(image)
    shift = _shift(pixels, height)
    top, bottom = tf.maximum(-shift, 0), tf.maximum(shift, 0)
    rows = tf.pad(tf.reshape(image, [height, 3 * width]), [[top, bottom], [0, 0]], constant_values=fill)
    return _shaped(rows[bottom : bottom + height], image)


def rotate(image, degrees, fill):
    """Rotate a picture about its centre.

    Args:
        image: uint8 [height, width, 3].
        degrees: float or float32 [], counter-clockwise.
        fill: int, the grey level of pixels that are left empty.

    Returns:
        uint8 [height, width, 3].
    """
    image = tf.convert_to_tensor(image, tf.uint8)
    height, width = _size(image)
    angle = tf.cast(degrees, tf.float64) * (-math.pi / 180.0)
    cosine, sine = tf.cos(angle), tf.sin(angle)
    centre_x, centre_y = tf.cast(width, tf.float64) / 2.0, tf.cast(height, tf.float64) / 2.0
    # Where the middle of the first pixel comes from; its neighbours lie a sine and a cosine from there.
    from_x, from_y = 0.5 - centre_x, 0.5 - centre_y
    first_x = _fixed(cosine * from_x + sine * from_y + centre_x) + _ONE
    first_y = _fixed(cosine * from_y - sine * from_x + centre_y) + _ONE
    across, down = tf.range(width), tf.range(height)
    columns = (down * _fixed(sine) + first_x)[:, tf.newaxis] + (across * _fixed(cosine))[tf.newaxis, :]
    rows = (down * _fixed(cosine) + first_y)[:, tf.newaxis] + (across * _fixed(-sine))[tf.newaxis, :]
    return _take(image, _whole(rows), _whole(columns), fill)


def _take(image, rows, columns, fill):
    """The pixels at rows and columns, int32 that broadcast to [height, width], counted from one; elsewhere `fill`."""
    height, width = _size(image)
    padded = tf.pad(image, [[1, 1], [1, 1], [0, 0]], constant_values=fill)
    rows = tf.clip_by_value(rows, 0, height + 1)
    columns = tf.clip_by_value(columns, 0, width + 1)
    places = tf.reshape(rows * (width + 2) + columns, [-1, 1])
    # gather_nd, because tf.gather takes half as long again for short rows.
    return _shaped(tf.gather_nd(tf.reshape(padded, [-1, 3]), places), image)


def _fixed(value):
    """float64 to PIL's fixed-point int32: 16 bits of it are behind the point."""
    return tf.cast(tf.floor(value * _ONE + 0.5), tf.int32)


def _whole(value):
    """What is before the point of a fixed-point int32, rounded down: its upper two bytes, faster than a shift."""
    return tf.cast(tf.bitcast(value, tf.int16)[..., 1], tf.int32)


def _shift(pixels, side):
    """The whole number of pixels, int32 from -side to side."""
    return tf.clip_by_value(tf.cast(tf.floor(tf.cast(pixels, tf.float64) + 0.5), tf.int32), -side, side)


def _size(image):
    """(height, width): int where both are known, else int32 []."""
    height, width = image.shape[0], image.shape[1]
    if height is None or width is None:
        height, width = tf.shape(image)[0], tf.shape(image)[1]
    return height, width


def _shaped(values, image):
    """The values, in the shape of the picture."""
    known = image.shape.is_fully_defined()
    return tf.ensure_shape(tf.reshape(values, image.shape if known else tf.shape(image)), image.shape)
