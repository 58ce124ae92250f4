"""Mixup and CutMix: each image of a batch is mixed with a partner, and their labels in the same proportion.

`sample` depends only on the seed of one image, so it runs before batching; `mix` needs the batch.
"""

import tensorflow as tf


def sample(seed, image_size, mixup, cutmix):
    """Samples how one image is mixed with its partner.

    The weight comes from Beta(alpha, alpha). Mixup gives the larger weight to the image itself, as the EfficientNet
    code does. CutMix gives the partner a box with the image's aspect ratio around a uniformly sampled center; the
    label weight is that of the part of the box inside the image.

    Args:
        seed: int64 [2].
        image_size: (height, width) in pixels.
        mixup, cutmix: alpha, float, or None. With both, each is used with probability 1/2.

    Returns:
        float32 [6]: the image's label weight; its pixel weight inside the box; the box's top, left, bottom, right in
        pixels. Outside the box the pixel weight is 1.
    """
    height, width = image_size
    weight_seed, box_seed = tf.unstack(tf.random.split(seed, 2))
    choice, y, x = tf.unstack(tf.random.stateless_uniform([3], box_seed))

    def sample_mixup():
        weight = _sample_beta(weight_seed, mixup)
        weight = tf.maximum(weight, 1.0 - weight)
        return tf.stack([weight, weight, 0.0, 0.0, float(height), float(width)])

    def sample_cutmix():
        side = tf.sqrt(1.0 - _sample_beta(weight_seed, cutmix))
        top, bottom = _interval(y, side, height)
        left, right = _interval(x, side, width)
        weight = 1.0 - (bottom - top) * (right - left) / float(height * width)
        return tf.stack([weight, 0.0, top, left, bottom, right])

    if cutmix is None:
        return sample_mixup()
    if mixup is None:
        return sample_cutmix()
    return tf.cond(choice < 0.5, sample_mixup, sample_cutmix)


def mix(images, labels, params, num_classes, has_boxes, finish):
    """Mixes each image of a batch with the one half a batch before it.

    Args:
        images: uint8 [batch, height, width, 3].
        labels: int32 [batch].
        params: float32 [batch, 6] from `sample`.
        num_classes: int.
        has_boxes: Whether CutMix is on; without it the boxes are ignored.
        finish: Function of a mixed image, float32 [height, width, 3] on 0..255, to the final image of the same type
            and shape. It runs here because each image is still in the processor's cache.

    Returns:
        float32 [batch, height, width, 3] images and float32 [batch, num_classes] labels, whose rows sum to 1.
    """
    height, width, channels = images.shape[1:]
    batch_size = tf.shape(images)[0]
    half = batch_size // 2
    rows, columns = tf.range(height, dtype=tf.float32), tf.repeat(tf.range(width, dtype=tf.float32), channels)
    # Rows of width * 3 numbers: with 3 as the last dimension, CPU operations take several times as long.
    flat = tf.reshape(images, [-1, height, width * channels])

    def mix_one(index):
        image, partner = (tf.cast(flat[i], tf.float32) for i in (index, (index - half) % batch_size))
        _, weight, top, left, bottom, right = tf.unstack(params[index])
        partner_weight = 1.0 - weight
        if has_boxes:
            in_rows = tf.where((rows >= top) & (rows < bottom), partner_weight, 0.0)
            partner_weight = in_rows[:, tf.newaxis] * tf.cast((columns >= left) & (columns < right), tf.float32)
        return finish(tf.reshape(image + partner_weight * (partner - image), [height, width, channels]))

    mixed = tf.map_fn(mix_one, tf.range(batch_size), fn_output_signature=tf.TensorSpec(images.shape[1:], tf.float32))
    mixed = tf.ensure_shape(mixed, images.shape)
    own, other = tf.one_hot(labels, num_classes), tf.one_hot(tf.roll(labels, half, 0), num_classes)
    weight = params[:, :1]
    return mixed, weight * own + (1.0 - weight) * other


def _sample_beta(seed, alpha):
    """Returns one sample of Beta(alpha, alpha), float32 []."""
    # In logarithms: with a small alpha, both Gamma samples may underflow float32. Gamma(alpha, 1) is
    # Gamma(alpha + 1, 1) * U^(1 / alpha).
    gamma_seed, uniform_seed = tf.unstack(tf.random.split(seed, 2))
    gamma = tf.random.stateless_gamma([2], gamma_seed, alpha + 1.0)
    uniform = tf.random.stateless_uniform([2], uniform_seed, minval=1e-30)
    one, other = tf.unstack(tf.math.log(gamma) + tf.math.log(uniform) / alpha)
    return tf.sigmoid(one - other)


def _interval(center, fraction, length):
    """Returns (first, last + 1) pixel of an interval around center * length, clipped to 0..length."""
    half = tf.floor(fraction * length / 2.0)
    middle = tf.floor(center * length)
    return tf.maximum(middle - half, 0.0), tf.minimum(middle + half, float(length))
