"""Operations on the colours of a picture, with the results of PIL's ImageEnhance and ImageOps.

They run once a training picture on one core of the host, so passes over bytes and float32 are preferred to look-ups.
"""

import numpy as np
import tensorflow as tf

# Of red, green and blue in PIL's grey, and PIL's kernel ImageFilter.SMOOTH: ones around a five, over their sum.
_GREY = (19595 / 65536, 38470 / 65536, 7471 / 65536)
_SMOOTH_CENTRE, _SMOOTH_SUM = 5.0, 13.0


def brightness(image, factor):
    """Blend a picture with black.

    Args:
        image: uint8 [height, width, 3].
        factor: float or float32 []; 0 gives black, 1 the picture, more goes beyond it.

    Returns:
        uint8 [height, width, 3].
    """
    image = tf.convert_to_tensor(image, tf.uint8)
    return _bytes(tf.cast(image, tf.float32) * factor, image.shape)


def contrast(image, factor):
    """Blend a picture with its mean grey; args and returns as `brightness`."""
    image = tf.convert_to_tensor(image, tf.uint8)
    colours = _rows(tf.cast(image, tf.float32))
    # A row's sum is exact in float32, that of a large picture is not.
    sums = tf.reduce_sum(tf.reshape(_grey(image), tf.shape(colours)), 1)
    total = tf.reduce_sum(tf.cast(sums, tf.float64))
    mean = tf.floor(total / tf.cast(tf.size(image), tf.float64) + 0.5)
    return _blend(tf.cast(mean, tf.float32), colours, factor, image)


def saturation(image, factor):
    """Blend a picture with its grey version; args and returns as `brightness`."""
    image = tf.convert_to_tensor(image, tf.uint8)
    grey = _grey(image)
    return _blend(grey, tf.reshape(tf.cast(image, tf.float32), tf.shape(grey)), factor, image)


def sharpness(image, factor):
    """Blend a picture with a smoothed version, save the pixels of its border; args and returns as `brightness`."""
    image = tf.convert_to_tensor(image, tf.uint8)
    rows = _rows(image)
    colours = tf.cast(rows, tf.float32)
    # Rows are joined, so that neighbours lie at fixed distances; what reaches over a row's end is cut off below.
    width = tf.shape(rows)[1]
    middle = tf.reshape(colours[1:-1], [-1])
    thirds = tf.pad(tf.reshape(tf.add_n([colours[:-2], colours[1:-1], colours[2:]]), [-1]), [[3, 3]])
    total = tf.add_n([thirds[:-6], thirds[3:-3], thirds[6:], middle * (_SMOOTH_CENTRE - 1.0)])
    smooth = tf.floor(total * (1.0 / _SMOOTH_SUM) + 0.5)
    inside = tf.reshape(_byte_values(smooth + factor * (middle - smooth)), [-1, width])[:, 3:-3]
    # The last row and column begin at the second: a picture of one pixel across has no other end.
    border = tf.concat([rows[1:-1, :3], inside, rows[1:-1, 3:][:, -3:]], 1)
    changed = tf.concat([rows[:1], border, rows[1:][-1:]], 0)
    return _shaped(changed, image)


def posterize(image, bits):
    """Keep the highest bits of each value.

    Args:
        image: uint8 [height, width, 3].
        bits: int or int32 [], 0 to 8; 8 changes nothing.

    Returns:
        uint8 [height, width, 3].
    """
    image = tf.convert_to_tensor(image, tf.uint8)
    mask = 256 - tf.bitwise.left_shift(1, 8 - tf.cast(bits, tf.int32))
    return tf.bitwise.bitwise_and(image, tf.cast(mask, tf.uint8))


def solarize(image, threshold):
    """Invert the values from a threshold upwards.

    Args:
        image: uint8 [height, width, 3].
        threshold: number or scalar tensor; 0 or less inverts everything, more than 255 nothing.

    Returns:
        uint8 [height, width, 3].
    """
    image = tf.convert_to_tensor(image, tf.uint8)
    threshold = tf.math.ceil(tf.cast(threshold, tf.float32))
    lowest = tf.cast(tf.clip_by_value(threshold, 0.0, 255.0), tf.uint8)
    bits = tf.where(threshold > 255.0, tf.constant(0, tf.uint8), tf.constant(255, tf.uint8))
    # Without a choice for each value: tf.where takes four times as long as all of this.
    return tf.bitwise.bitwise_xor(image, tf.cast(image >= lowest, tf.uint8) * bits)


def solarize_add(image, addition, threshold=128):
    """Add to the values below a threshold, up to 255 (RandAugment's SolarizeAdd, which PIL does not have).

    Args:
        image: uint8 [height, width, 3].
        addition: int or scalar tensor, grey levels; it may be negative, then values go down to 0.
        threshold: number or scalar tensor.

    Returns:
        uint8 [height, width, 3].
    """
    image = tf.convert_to_tensor(image, tf.uint8)
    colours = tf.cast(image, tf.float32)
    below = tf.cast(colours < tf.cast(threshold, tf.float32), tf.float32)
    return _bytes(colours + below * tf.cast(addition, tf.float32), image.shape)


def invert(image):
    """255 minus each value of a picture uint8 [height, width, 3]."""
    return 255 - tf.convert_to_tensor(image, tf.uint8)


def auto_contrast(image):
    """Stretch each channel of a picture uint8 [height, width, 3], so that it reaches from 0 to 255."""
    image = tf.convert_to_tensor(image, tf.uint8)
    rows = _rows(image)
    colours = tf.cast(rows, tf.float32)
    lowest = tf.reduce_min(tf.reshape(tf.reduce_min(colours, 0), [-1, 3]), 0)
    highest = tf.reduce_max(tf.reshape(tf.reduce_max(colours, 0), [-1, 3]), 0)
    # In float64 as PIL: where the quotient is whole, the last bit decides between two grey levels.
    lowest, highest = tf.cast(lowest, tf.float64), tf.cast(highest, tf.float64)
    varies = highest > lowest
    scale = tf.where(varies, 255.0 / (highest - lowest), 1.0)
    offset = tf.where(varies, -lowest * scale, 0.0)
    width = tf.shape(image)[1]
    stretched = tf.cast(rows, tf.float64) * tf.tile(scale, [width]) + tf.tile(offset, [width])
    # The highest value may pass 255 by the last bit of a float64, and the lowest 0, which truncating takes away.
    return _shaped(tf.cast(stretched, tf.uint8), image)


def equalize(image):
    """Make all values of each channel of a picture uint8 [height, width, 3] about as frequent."""
    image = tf.convert_to_tensor(image, tf.uint8)
    up_to = tf.cumsum(tf.stack([_count(image[..., channel]) for channel in range(3)]), 1)
    pixels = up_to[:, -1:]
    below_highest = tf.reduce_max(tf.where(up_to < pixels, up_to, 0), 1, keepdims=True)
    step = below_highest // 255
    before = tf.pad(up_to[:, :-1], [[0, 0], [1, 0]])
    levels = tf.minimum((step // 2 + before) // tf.maximum(step, 1), 255)
    return _look_up(image, tf.where(step > 0, levels, tf.range(256)))


def _count(values):
    """int32 [256], how many of the values uint8 [height, width] are 0, 1, ... 255."""
    # Below tf.math.bincount, which looks for the highest value first.
    values = tf.reshape(tf.cast(values, tf.int32), [-1])
    return tf.raw_ops.DenseBincount(input=values, size=256, weights=tf.constant([], tf.int32))


def _look_up(image, table):
    """Replace each value by that of its channel's row of a table, int32 [3, 256].

    Two bytes are looked up at once, because a look-up takes as long for two bytes as for one and building the tables
    of pairs takes little. In memory the pairs are red and green, blue and red, green and blue, and so on.
    """
    table = tf.cast(table, tf.uint16)
    first, second = tf.gather(table, [0, 2, 1]), tf.gather(table, [1, 0, 2])
    pairs = tf.reshape(first[:, tf.newaxis, :] + 256 * second[:, :, tf.newaxis], [-1])
    values = tf.reshape(image, [-1])
    size = image.shape.num_elements()
    whole = size is not None and size % 6 == 0
    if not whole:
        size = tf.size(values)
        values = tf.pad(values, [[0, -size % 6]])
    found = tf.cast(tf.bitcast(tf.reshape(values, [-1, 2]), tf.uint16), tf.int32)
    found += tf.tile(tf.constant([0, 1 << 16, 2 << 16]), [-(-size // 6)])
    # gather_nd, because tf.gather takes half as long again for single elements.
    changed = tf.reshape(tf.bitcast(tf.gather_nd(pairs, found[:, tf.newaxis]), tf.uint8), [-1])
    return _shaped(changed if whole else changed[:size], image)


def _grey(image):
    """PIL's grey of a picture uint8 [height, width, 3], three times a pixel: whole float32 [pixels / n, 3 * n]."""
    pixels = image.shape.num_elements()
    # A product of matrices is fastest with rows of four pixels; all its terms and sums are exact in float32.
    together = 1 if pixels is None else next(n for n in (4, 2, 1) if pixels % (3 * n) == 0)
    weights = np.kron(np.eye(together), np.repeat(np.array(_GREY)[:, np.newaxis], 3, 1))
    colours = tf.reshape(tf.cast(image, tf.float32), [-1, 3 * together])
    return tf.floor(tf.matmul(colours, tf.constant(weights, tf.float32)) + 0.5)


def _blend(other, colours, factor, image):
    """What PIL's Image.blend makes of float32 `other` and `colours`, in the shape of `image`."""
    return _shaped(_byte_values(other + factor * (colours - other)), image)


def _byte_values(values):
    """float32 to uint8, cut to 0..255 and truncated."""
    return tf.cast(tf.clip_by_value(values, 0.0, 255.0), tf.uint8)


def _bytes(values, shape):
    return tf.ensure_shape(_byte_values(values), shape)


def _rows(image):
    """[height, width, 3] to [height, width * 3], in which operations on rows and columns are faster."""
    height, width = image.shape[0], image.shape[1]
    if height is None or width is None:
        height, width = tf.shape(image)[0], tf.shape(image)[1]
    return tf.reshape(image, [height, 3 * width])


def _shaped(values, image):
    """The values, in the shape of the picture."""
    known = image.shape.is_fully_defined()
    return tf.ensure_shape(tf.reshape(values, image.shape if known else tf.shape(image)), image.shape)
