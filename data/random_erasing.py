"""Random erasing (Zhong et al., arXiv 1708.04896): a random rectangle of an image becomes noise."""

import math

import tensorflow as tf

_AREA = (0.02, 1 / 3)  # s_l, s_h: fraction of the image's area
_ASPECT = (0.3, 1 / 0.3)  # r_1, r_2: height / width, log-uniform
_MAX_ATTEMPTS = 10  # rectangles that may not fit before the image stays unchanged
_BYTES_PER_SAMPLE = 8


def random_erasing(image, seed, probability):
    """Fills one rectangle with random bytes per pixel and channel, the best variant in the paper (RE-R).

    Args:
        image: uint8 [height, width, 3].
        seed: int64 [2].
        probability: float from 0 to 1.

    Returns:
        uint8 [height, width, 3].
    """
    image = tf.convert_to_tensor(image)
    if not probability:
        return image
    samples = tf.random.stateless_uniform([3 + 2 * _MAX_ATTEMPTS], seed)
    rows, columns = tf.unstack(tf.shape(image)[:2])

    def erase():
        heights, widths = _sizes(rows, columns, tf.reshape(samples[3:], [2, _MAX_ATTEMPTS]))
        fits = (heights <= rows) & (widths <= columns)
        first = tf.argmax(fits)
        # An empty rectangle changes nothing and avoids a second branch.
        height, width = tf.unstack(tf.where(fits[first], tf.stack([heights[first], widths[first]]), 0))
        top = _uniform_integer(samples[1], rows - height)
        left = _uniform_integer(samples[2], columns - width)
        return paste(image, _noise(height, width, tf.random.fold_in(seed, 1)), top, left)

    return tf.ensure_shape(tf.cond(samples[0] < probability, erase, lambda: image), image.shape)


def paste(image, patch, top, left):
    """Replaces a rectangle of an image by a patch.

    Args:
        image: uint8 [height, width, 3].
        patch: uint8 [patch_height, patch_width, 3], which must fit into the image.
        top, left: int32 [], position of the patch's first pixel.

    Returns:
        uint8 [height, width, 3].
    """
    image = tf.convert_to_tensor(image)
    height, width = tf.unstack(tf.shape(patch)[:2])
    bottom, right = top + height, left + width
    # Concatenation: a mask of the image's size takes several times as long.
    middle = tf.concat([image[top:bottom, :left], patch, image[top:bottom, right:]], 1)
    return tf.concat([image[:top], middle, image[bottom:]], 0)


def _sizes(rows, columns, samples):
    """Returns heights and widths of rectangles in pixels, int32 [n], from float32 [2, n] in [0, 1)."""
    fraction = _AREA[0] + samples[0] * (_AREA[1] - _AREA[0])
    low, high = map(math.log, _ASPECT)
    aspect = tf.exp(low + samples[1] * (high - low))
    area = fraction * tf.cast(rows * columns, tf.float32)
    heights, widths = tf.round(tf.sqrt(area * aspect)), tf.round(tf.sqrt(area / aspect))
    return tf.cast(heights, tf.int32), tf.cast(widths, tf.int32)


def _uniform_integer(sample, high):
    """Converts a uniform sample in [0, 1) to a uniform integer in 0..high, int32 []."""
    return tf.cast(sample * tf.cast(high + 1, tf.float32), tf.int32)


def _noise(height, width, seed):
    """Returns uniform uint8 [height, width, 3]."""
    count = height * width * 3
    num_samples = -(-count // _BYTES_PER_SAMPLE)
    # Eight bytes of each uint64; one sample per byte takes eight times as long.
    words = tf.random.stateless_uniform([num_samples], seed, minval=None, maxval=None, dtype=tf.uint64)
    return tf.reshape(tf.reshape(tf.bitcast(words, tf.uint8), [-1])[:count], [height, width, 3])
