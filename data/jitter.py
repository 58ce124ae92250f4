"""Colour jitter: brightness, contrast and saturation drawn for each picture."""

import itertools

import tensorflow as tf

from convzoo.data import colour


def colour_jitter(image, seed, brightness, contrast, saturation):
    """Change the three, each by a factor of its own, in an order of which all are as likely.

    As torchvision's ColorJitter does it without hue, which the recipe of ShuffleNetV2 uses with 0.4 three times.

    Args:
        image: uint8 [height, width, 3].
        seed: int64 [2].
        brightness, contrast, saturation: float, at least 0: the factor lies evenly between 1 minus this, at least 0,
            and 1 plus this; 0 leaves the operation out.

    Returns:
        uint8 [height, width, 3].
    """
    image = tf.convert_to_tensor(image)
    operations = [
        (strength, operation)
        for strength, operation in (
            (brightness, colour.brightness),
            (contrast, colour.contrast),
            (saturation, colour.saturation),
        )
        if strength
    ]
    if not operations:
        return image
    orders = list(itertools.permutations(range(len(operations))))
    draws = tf.random.stateless_uniform([1 + len(operations)], seed)
    order = tf.gather(tf.constant(orders), tf.cast(draws[0] * len(orders), tf.int32))
    changed = image
    for which in tf.unstack(order):
        changed = _change(changed, which, operations, draws[1:])
    return tf.ensure_shape(changed, image.shape)


def _change(image, which, operations, draws):
    """Apply the operation of number `which` (int32 []); draws: float32 [number of operations] in 0..1."""

    def branch(number):
        strength, operation = operations[number]
        lowest = max(0.0, 1.0 - strength)
        return lambda: operation(image, lowest + draws[number] * (1.0 + strength - lowest))

    return tf.switch_case(which, [branch(number) for number in range(len(operations))])
