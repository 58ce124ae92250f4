"""Mixup and CutMix: pictures of a batch mixed in pairs, and their labels in the same shares.

Each picture draws how it is mixed by itself (`draw`), because chance follows the picture's number; mixing (`mix`) needs
the batch.
"""

import tensorflow as tf


def draw(seed, image_size, mixup, cutmix):
    """Draw how one picture is mixed with its partner.

    The share is drawn from Beta(alpha, alpha). Mixup gives the larger part to the picture itself, as the EfficientNet
    code does; CutMix gives the partner a box of the drawn share of the area and the picture's shape, around a point
    drawn anywhere, and counts the part that lies inside.

    Args:
        seed: int64 [2].
        image_size: (height, width) in pixels.
        mixup, cutmix: float, the alphas; 0 for none. With both, each comes half of the time.

    Returns:
        float32 [6]: the picture's share of pixels and label; its weight inside the box; the box's top, left, bottom,
        right in pixels. Outside the box the weight is 1.
    """
    height, width = image_size
    shares, where = tf.unstack(tf.random.split(seed, 2))
    choice, y, x = tf.unstack(tf.random.stateless_uniform([3], where))

    def by_mixup():
        share = _beta(shares, mixup)
        share = tf.maximum(share, 1.0 - share)
        return tf.stack([share, share, 0.0, 0.0, float(height), float(width)])

    def by_cutmix():
        side = tf.sqrt(1.0 - _beta(shares, cutmix))
        top, bottom = _span(y, side, height)
        left, right = _span(x, side, width)
        share = 1.0 - (bottom - top) * (right - left) / float(height * width)
        return tf.stack([share, 0.0, top, left, bottom, right])

    if not cutmix:
        return by_mixup()
    if not mixup:
        return by_cutmix()
    return tf.cond(choice < 0.5, by_mixup, by_cutmix)


def mix(images, labels, draws, num_classes, has_boxes, finish):
    """Mix each picture of a batch with the one that lies half a batch behind it.

    Args:
        images: uint8 [batch, height, width, 3].
        labels: int32 [batch].
        draws: float32 [batch, 6], of `draw`.
        num_classes: int.
        has_boxes: bool, whether there is CutMix; without it boxes are not looked at.
        finish: function of a mixed picture, float32 [height, width, 3] on the scale 0..255, to the picture of the
            result, of the same type and shape. It is here because each picture is still in the processor's cache.

    Returns:
        float32 [batch, height, width, 3], and float32 [batch, num_classes], each row of which sums to 1.
    """
    height, width, colours = images.shape[1:]
    size = tf.shape(images)[0]
    half = size // 2
    rows, columns = tf.range(height, dtype=tf.float32), tf.repeat(tf.range(width, dtype=tf.float32), colours)
    # Rows of width * 3 numbers: on the CPU, operations that go on by three take several times as long.
    flat = tf.reshape(images, [-1, height, width * colours])

    def one(index):
        image, partner = (tf.cast(flat[i], tf.float32) for i in (index, (index - half) % size))
        _, weight, top, left, bottom, right = tf.unstack(draws[index])
        of_partner = 1.0 - weight
        if has_boxes:
            down = tf.where((rows >= top) & (rows < bottom), of_partner, 0.0)
            of_partner = down[:, tf.newaxis] * tf.cast((columns >= left) & (columns < right), tf.float32)
        return finish(tf.reshape(image + of_partner * (partner - image), [height, width, colours]))

    mixed = tf.map_fn(one, tf.range(size), fn_output_signature=tf.TensorSpec(images.shape[1:], tf.float32))
    mixed = tf.ensure_shape(mixed, images.shape)
    own, other = tf.one_hot(labels, num_classes), tf.one_hot(tf.roll(labels, half, 0), num_classes)
    share = draws[:, :1]
    return mixed, share * own + (1.0 - share) * other


def _beta(seed, alpha):
    """One number of Beta(alpha, alpha), float32 []."""
    # By logarithms: of a small alpha both numbers of the quotient may be too small for float32.
    one, other = tf.unstack(_log_gamma(seed, alpha))
    return tf.sigmoid(one - other)


def _log_gamma(seed, alpha):
    """Logarithms of two numbers of Gamma(alpha, 1): those of Gamma(alpha + 1, 1) times U^(1 / alpha)."""
    of_gamma, of_power = tf.unstack(tf.random.split(seed, 2))
    gamma = tf.random.stateless_gamma([2], of_gamma, alpha + 1.0)
    power = tf.random.stateless_uniform([2], of_power, minval=1e-30)
    return tf.math.log(gamma) + tf.math.log(power) / alpha


def _span(at, side, length):
    """First and last pixel + 1 of a part `side` (0 to 1) of a length around `at` (0 to 1), cut off at the ends."""
    half = tf.floor(side * length / 2.0)
    middle = tf.floor(at * length)
    return tf.maximum(middle - half, 0.0), tf.minimum(middle + half, float(length))
