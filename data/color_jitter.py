"""Color jitter: random brightness, contrast and saturation."""

import itertools

import tensorflow as tf

from convzoo.data import color


def color_jitter(image, seed, brightness, contrast, saturation):
    """Changes brightness, contrast and saturation by independent random factors, in a random order.

    This is torchvision's ColorJitter without hue; ShuffleNetV2's recipe uses 0.4 for all three.

    Args:
        image: uint8 [height, width, 3].
        seed: int64 [2].
        brightness, contrast, saturation: Strength s of each, at least 0: the factor is uniform in
            [max(0, 1 - s), 1 + s]. 0 skips the operation.

    Returns:
        uint8 [height, width, 3].
    """
    image = tf.convert_to_tensor(image)
    strengths = {color.brightness: brightness, color.contrast: contrast, color.saturation: saturation}
    operations = [(operation, strength) for operation, strength in strengths.items() if strength]
    if not operations:
        return image
    orders = list(itertools.permutations(range(len(operations))))
    samples = tf.random.stateless_uniform([1 + len(operations)], seed)
    order = tf.gather(tf.constant(orders), tf.cast(samples[0] * len(orders), tf.int32))

    def branch(image, i):
        operation, strength = operations[i]
        low = max(0.0, 1.0 - strength)
        return lambda: operation(image, low + samples[1 + i] * (1.0 + strength - low))

    result = image
    for index in tf.unstack(order):
        result = tf.switch_case(index, [branch(result, i) for i in range(len(operations))])
    return tf.ensure_shape(result, image.shape)
