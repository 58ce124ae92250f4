"""Random erasing (Zhong et al., arXiv 1708.04896): a rectangle of a picture becomes noise."""

import math

import tensorflow as tf

_AREA = (0.02, 1 / 3)  # s_l, s_h: part of the picture's area
_ASPECT = (0.3, 1 / 0.3)  # r_1, r_2: height / width, drawn evenly on the scale of its logarithm
_ATTEMPTS = 10  # to find a rectangle that fits; then the picture stays as it is
_BYTES_PER_DRAW = 8


def random_erasing(image, seed, probability):
    """Fill one rectangle with bytes drawn for each pixel and channel, the form of the paper that did best (RE-R).

    Args:
        image: uint8 [height, width, 3].
        seed: int64 [2].
        probability: float from 0 to 1, how often a rectangle is erased.

    Returns:
        uint8 [height, width, 3].
    """
    image = tf.convert_to_tensor(image)
    if not probability:
        return image
    draws = tf.random.stateless_uniform([3 + 2 * _ATTEMPTS], seed)
    down, across = draws[1], draws[2]
    rows, columns = tf.unstack(tf.shape(image)[:2])

    def erased():
        heights, widths = _sizes(rows, columns, tf.reshape(draws[3:], [2, _ATTEMPTS]))
        fits = (heights <= rows) & (widths <= columns)
        first = tf.argmax(fits)
        # An empty rectangle erases nothing, so that no second branch is needed.
        height, width = tf.unstack(tf.where(fits[first], tf.stack([heights[first], widths[first]]), 0))
        top, left = _up_to(down, rows - height), _up_to(across, columns - width)
        return paste(image, _noise(height, width, tf.random.fold_in(seed, 1)), top, left)

    return tf.ensure_shape(tf.cond(draws[0] < probability, erased, lambda: image), image.shape)


def paste(image, patch, top, left):
    """Put a patch onto a picture.

    Args:
        image: uint8 [height, width, 3].
        patch: uint8 [patch height, patch width, 3], which must lie inside the picture.
        top, left: int32 [], where its first pixel comes to lie.

    Returns:
        uint8 [height, width, 3].
    """
    image = tf.convert_to_tensor(image)
    height, width = tf.unstack(tf.shape(patch)[:2])
    bottom, right = top + height, left + width
    # Joined from parts: a mask of the picture's size costs several times as much.
    middle = tf.concat([image[top:bottom, :left], patch, image[top:bottom, right:]], 1)
    return tf.concat([image[:top], middle, image[bottom:]], 0)


def _sizes(rows, columns, draws):
    """Heights and widths int32 [n] in pixels of rectangles, from float32 [2, n] in 0..1."""
    part = _AREA[0] + draws[0] * (_AREA[1] - _AREA[0])
    low, high = (math.log(aspect) for aspect in _ASPECT)
    aspect = tf.exp(low + draws[1] * (high - low))
    area = part * tf.cast(rows * columns, tf.float32)
    heights, widths = tf.round(tf.sqrt(area * aspect)), tf.round(tf.sqrt(area / aspect))
    return tf.cast(heights, tf.int32), tf.cast(widths, tf.int32)


def _up_to(draw, highest):
    """A whole number 0..highest, all as likely, from a float32 [] in 0..1."""
    return tf.cast(draw * tf.cast(highest + 1, tf.float32), tf.int32)


def _noise(height, width, seed):
    """uint8 [height, width, 3], all values as likely."""
    count = height * width * 3
    draws = -(-count // _BYTES_PER_DRAW)
    # Eight bytes of each draw: a draw for each byte would take eight times as long.
    words = tf.random.stateless_uniform([draws], seed, minval=None, maxval=None, dtype=tf.uint64)
    return tf.reshape(tf.reshape(tf.bitcast(words, tf.uint8), [-1])[:count], [height, width, 3])
