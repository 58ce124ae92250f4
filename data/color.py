"""Color operations on uint8 [height, width, 3] images, equal to PIL's ImageEnhance and ImageOps.

All return an image of the same type and shape. They run once per training image on one CPU core, so they prefer passes
over uint8 and float32 to table look-ups. A factor is a float or float32 []: 1 keeps the image, 0 gives what it is
blended with, and larger values extrapolate.
"""

import numpy as np
import tensorflow as tf

# Weights of red, green and blue in PIL's gray; PIL's kernel ImageFilter.SMOOTH: ones around a five, over their sum.
_GRAY = (19595 / 65536, 38470 / 65536, 7471 / 65536)
_SMOOTH_CENTER, _SMOOTH_SUM = 5.0, 13.0


def brightness(image, factor):
    """Blends an image with black."""
    image = tf.convert_to_tensor(image, tf.uint8)
    return reshape_like(_to_bytes(tf.cast(image, tf.float32) * factor), image)


def contrast(image, factor):
    """Blends an image with its mean gray level."""
    image = tf.convert_to_tensor(image, tf.uint8)
    colors = _rows(tf.cast(image, tf.float32))
    # A row's sum is exact in float32; that of a large image is not.
    sums = tf.reduce_sum(tf.reshape(_gray(image), tf.shape(colors)), 1)
    total = tf.reduce_sum(tf.cast(sums, tf.float64))
    mean = tf.floor(total / tf.cast(tf.size(image), tf.float64) + 0.5)
    return _blend(tf.cast(mean, tf.float32), colors, factor, image)


def saturation(image, factor):
    """Blends an image with its gray version."""
    image = tf.convert_to_tensor(image, tf.uint8)
    gray = _gray(image)
    return _blend(gray, tf.reshape(tf.cast(image, tf.float32), tf.shape(gray)), factor, image)


def sharpness(image, factor):
    """Blends an image with a smoothed version, except for the pixels at its border."""
    image = tf.convert_to_tensor(image, tf.uint8)
    rows = _rows(image)
    colors = tf.cast(rows, tf.float32)
    # Rows are concatenated, so that neighbors have fixed distances; columns that mix two rows are cut off below.
    width = tf.shape(rows)[1]
    middle = tf.reshape(colors[1:-1], [-1])
    column_sums = tf.pad(tf.reshape(tf.add_n([colors[:-2], colors[1:-1], colors[2:]]), [-1]), [[3, 3]])
    total = tf.add_n([column_sums[:-6], column_sums[3:-3], column_sums[6:], middle * (_SMOOTH_CENTER - 1.0)])
    smooth = tf.floor(total * (1.0 / _SMOOTH_SUM) + 0.5)
    inside = tf.reshape(_to_bytes(smooth + factor * (middle - smooth)), [-1, width])[:, 3:-3]
    # The slices for the last row and column start at the second: an image one pixel wide has no other border.
    with_border = tf.concat([rows[1:-1, :3], inside, rows[1:-1, 3:][:, -3:]], 1)
    return reshape_like(tf.concat([rows[:1], with_border, rows[1:][-1:]], 0), image)


def posterize(image, bits):
    """Keeps the `bits` (0 to 8, int or int32 []) highest bits of each value."""
    image = tf.convert_to_tensor(image, tf.uint8)
    mask = 256 - tf.bitwise.left_shift(1, 8 - tf.cast(bits, tf.int32))
    return tf.bitwise.bitwise_and(image, tf.cast(mask, tf.uint8))


def solarize(image, threshold):
    """Inverts the values from `threshold` (number or scalar tensor) on; above 255 it inverts nothing."""
    image = tf.convert_to_tensor(image, tf.uint8)
    threshold = tf.math.ceil(tf.cast(threshold, tf.float32))
    lowest = tf.cast(tf.clip_by_value(threshold, 0.0, 255.0), tf.uint8)
    bits = tf.where(threshold > 255.0, tf.constant(0, tf.uint8), tf.constant(255, tf.uint8))
    # Bit operations: tf.where per value takes four times as long as all of this.
    return tf.bitwise.bitwise_xor(image, tf.cast(image >= lowest, tf.uint8) * bits)


def solarize_add(image, addition, threshold=128):
    """Adds `addition` gray levels, clipped to 0..255, to the values below `threshold` (RandAugment's SolarizeAdd).

    Args:
        image: uint8 [height, width, 3].
        addition: int or scalar tensor; may be negative.
        threshold: Number or scalar tensor.
    """
    image = tf.convert_to_tensor(image, tf.uint8)
    colors = tf.cast(image, tf.float32)
    is_below = tf.cast(colors < tf.cast(threshold, tf.float32), tf.float32)
    return reshape_like(_to_bytes(colors + is_below * tf.cast(addition, tf.float32)), image)


def invert(image):
    """Returns 255 minus each value."""
    return 255 - tf.convert_to_tensor(image, tf.uint8)


def auto_contrast(image):
    """Stretches each channel to the range 0..255."""
    image = tf.convert_to_tensor(image, tf.uint8)
    rows = _rows(image)
    colors = tf.cast(rows, tf.float32)
    lowest = tf.reduce_min(tf.reshape(tf.reduce_min(colors, 0), [-1, 3]), 0)
    highest = tf.reduce_max(tf.reshape(tf.reduce_max(colors, 0), [-1, 3]), 0)
    # float64 as in PIL: where the quotient is an integer, the last bit decides between two gray levels.
    lowest, highest = tf.cast(lowest, tf.float64), tf.cast(highest, tf.float64)
    varies = highest > lowest
    scale = tf.where(varies, 255.0 / (highest - lowest), 1.0)
    offset = tf.where(varies, -lowest * scale, 0.0)
    width = tf.shape(image)[1]
    stretched = tf.cast(rows, tf.float64) * tf.tile(scale, [width]) + tf.tile(offset, [width])
    # The extremes may pass 0 and 255 by the last bit of a float64, which truncation removes.
    return reshape_like(tf.cast(stretched, tf.uint8), image)


def equalize(image):
    """Equalizes the histogram of each channel."""
    image = tf.convert_to_tensor(image, tf.uint8)
    cumulative = tf.cumsum(tf.stack([_histogram(image[..., channel]) for channel in range(3)]), 1)
    pixels = cumulative[:, -1:]
    below_highest = tf.reduce_max(tf.where(cumulative < pixels, cumulative, 0), 1, keepdims=True)
    step = below_highest // 255
    before = tf.pad(cumulative[:, :-1], [[0, 0], [1, 0]])
    levels = tf.minimum((step // 2 + before) // tf.maximum(step, 1), 255)
    return _look_up(image, tf.where(step > 0, levels, tf.range(256)))


def static_or_dynamic_size(image):
    """Returns (height, width) of an image: ints if both are known, else int32 []."""
    height, width = image.shape[0], image.shape[1]
    if height is None or width is None:
        height, width = tf.shape(image)[0], tf.shape(image)[1]
    return height, width


def reshape_like(values, image):
    """Returns the values in the shape of an image, statically as far as known."""
    known = image.shape.is_fully_defined()
    return tf.ensure_shape(tf.reshape(values, image.shape if known else tf.shape(image)), image.shape)


def _histogram(values):
    """Returns int32 [256], the number of each value in uint8 [height, width]."""
    # tf.math.bincount would first look for the largest value.
    values = tf.reshape(tf.cast(values, tf.int32), [-1])
    return tf.raw_ops.DenseBincount(input=values, size=256, weights=tf.constant([], tf.int32))


def _look_up(image, table):
    """Replaces each value by its entry in a table, int32 [3, 256], with one row per channel.

    It looks up two bytes at once, which takes as long as one byte. In memory the pairs are (red, green), (blue, red),
    (green, blue), and so on.
    """
    table = tf.cast(table, tf.uint16)
    first, second = tf.gather(table, [0, 2, 1]), tf.gather(table, [1, 0, 2])
    pair_table = tf.reshape(first[:, tf.newaxis, :] + 256 * second[:, :, tf.newaxis], [-1])
    values = tf.reshape(image, [-1])
    size = image.shape.num_elements()
    is_whole = size is not None and size % 6 == 0
    if not is_whole:
        size = tf.size(values)
        values = tf.pad(values, [[0, -size % 6]])
    indices = tf.cast(tf.bitcast(tf.reshape(values, [-1, 2]), tf.uint16), tf.int32)
    indices += tf.tile(tf.constant([0, 1 << 16, 2 << 16]), [-(-size // 6)])
    # gather_nd, because tf.gather takes 1.5 times as long for single elements.
    result = tf.reshape(tf.bitcast(tf.gather_nd(pair_table, indices[:, tf.newaxis]), tf.uint8), [-1])
    return reshape_like(result if is_whole else result[:size], image)


def _gray(image):
    """Returns PIL's gray level of each pixel three times, as integers in float32 [pixels / n, 3 * n]."""
    pixels = image.shape.num_elements()
    # The matrix product is fastest with four pixels per row; all its terms and sums are exact in float32.
    pixels_per_row = 1 if pixels is None else next(n for n in (4, 2, 1) if pixels % (3 * n) == 0)
    weights = np.kron(np.eye(pixels_per_row), np.repeat(np.array(_GRAY)[:, np.newaxis], 3, 1))
    colors = tf.reshape(tf.cast(image, tf.float32), [-1, 3 * pixels_per_row])
    return tf.floor(tf.matmul(colors, tf.constant(weights, tf.float32)) + 0.5)


def _blend(other, colors, factor, image):
    """Returns PIL's Image.blend of float32 `other` and `colors`, in the shape of `image`."""
    return reshape_like(_to_bytes(other + factor * (colors - other)), image)


def _to_bytes(values):
    """Clips float32 to 0..255 and truncates to uint8."""
    return tf.cast(tf.clip_by_value(values, 0.0, 255.0), tf.uint8)


def _rows(image):
    """Reshapes [height, width, 3] to [height, width * 3], on which row and column operations are faster."""
    height, width = static_or_dynamic_size(image)
    return tf.reshape(image, [height, 3 * width])
