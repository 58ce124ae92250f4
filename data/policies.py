"""AutoAugment and RandAugment: a few random operations per image.

Policies and magnitudes are those of the EfficientNet code, which trained the published weights. Operations equal PIL's.
"""

import functools

import tensorflow as tf

from convzoo.data import color, geometry
from convzoo.data.random_erasing import paste

# The ImageNet policy "v0" of the EfficientNet code, which differs from the tables of arXiv 1805.09501. Each row is a
# sub-policy of two (operation, probability, magnitude 0..10).
AUTO_AUGMENT = (
    (("Equalize", 0.8, 1), ("ShearY", 0.8, 4)),
    (("Color", 0.4, 9), ("Equalize", 0.6, 3)),
    (("Color", 0.4, 1), ("Rotate", 0.6, 8)),
    (("Solarize", 0.8, 3), ("Equalize", 0.4, 7)),
    (("Solarize", 0.4, 2), ("Solarize", 0.6, 2)),
    (("Color", 0.2, 0), ("Equalize", 0.8, 8)),
    (("Equalize", 0.4, 8), ("SolarizeAdd", 0.8, 3)),
    (("ShearX", 0.2, 9), ("Rotate", 0.6, 8)),
    (("Color", 0.6, 1), ("Equalize", 1.0, 2)),
    (("Invert", 0.4, 9), ("Rotate", 0.6, 0)),
    (("Equalize", 1.0, 9), ("ShearY", 0.6, 3)),
    (("Color", 0.4, 7), ("Equalize", 0.6, 0)),
    (("Posterize", 0.4, 6), ("AutoContrast", 0.4, 7)),
    (("Solarize", 0.6, 8), ("Color", 0.6, 9)),
    (("Solarize", 0.2, 4), ("Rotate", 0.8, 9)),
    (("Rotate", 1.0, 7), ("TranslateY", 0.8, 9)),
    (("ShearX", 0.0, 0), ("Solarize", 0.8, 4)),
    (("ShearY", 0.8, 0), ("Color", 0.6, 4)),
    (("Color", 1.0, 0), ("Rotate", 0.6, 2)),
    (("Equalize", 0.8, 4), ("Equalize", 0.0, 8)),
    (("Equalize", 1.0, 4), ("AutoContrast", 0.6, 2)),
    (("ShearY", 0.4, 7), ("SolarizeAdd", 0.6, 7)),
    (("Posterize", 0.8, 2), ("Solarize", 0.6, 10)),
    (("Solarize", 0.6, 8), ("Equalize", 0.6, 1)),
    (("Color", 0.8, 6), ("Rotate", 0.4, 5)),
)

# The operations of RandAugment (arXiv 1909.13719).
# fmt: off
RAND_AUGMENT = (
    "AutoContrast", "Equalize", "Invert", "Rotate", "Posterize", "Solarize", "Color", "Contrast", "Brightness",
    "Sharpness", "ShearX", "ShearY", "TranslateX", "TranslateY", "Cutout", "SolarizeAdd",
)
# fmt: on

_MAX_MAGNITUDE = 10.0  # magnitude of full strength
_FILL = 128  # gray level of pixels from outside the image
_AUTO_TRANSLATION, _RAND_TRANSLATION = 250, 100  # pixels at full strength
_CUTOUT = 40  # half a side in pixels at full strength

_WITHOUT_STRENGTH = {"AutoContrast": color.auto_contrast, "Equalize": color.equalize, "Invert": color.invert}
_BY_FACTOR = {
    "Brightness": color.brightness,
    "Color": color.saturation,
    "Contrast": color.contrast,
    "Sharpness": color.sharpness,
}
_BY_LEVEL = {"Posterize": color.posterize, "Solarize": color.solarize, "SolarizeAdd": color.solarize_add}
_SIGNED = {
    "Rotate": geometry.rotate,
    "ShearX": geometry.shear_x,
    "ShearY": geometry.shear_y,
    "TranslateX": geometry.translate_x,
    "TranslateY": geometry.translate_y,
}


def auto_augment(image, seed):
    """Applies a uniformly sampled sub-policy of AUTO_AUGMENT, each of its two operations with its probability.

    Args:
        image: uint8 [height, width, 3].
        seed: int64 [2].

    Returns:
        uint8 [height, width, 3].
    """
    # One sample for the sub-policy, then one per operation for its probability, then one per operation for its sign.
    samples = tf.random.stateless_uniform([5], seed)
    row = tf.cast(samples[0] * len(AUTO_AUGMENT), tf.int32)
    result = image = tf.convert_to_tensor(image)
    for i, operations in enumerate(zip(*AUTO_AUGMENT, strict=True)):
        names = sorted({name for name, _, _ in operations})
        indices = tf.constant([1 + names.index(name) for name, _, _ in operations])
        table = tf.constant([(p, _strength(name, level, _AUTO_TRANSLATION)) for name, p, level in operations])
        probability, strength = tf.unstack(table[row])
        index = tf.where(samples[1 + i] < probability, indices[row], 0)
        result = _apply(result, index, [None, *names], strength, samples[3 + i])
    return tf.ensure_shape(result, image.shape)


def rand_augment(image, seed, layers, magnitude):
    """Applies uniformly sampled operations of RAND_AUGMENT one after the other, all with one magnitude.

    Args:
        image: uint8 [height, width, 3].
        seed: int64 [2].
        layers: Number of operations, int.
        magnitude: float: 0 to 10 on the published scale, up to 30 in the paper's searches.

    Returns:
        uint8 [height, width, 3].
    """
    # Per layer: the operation, its sign, and the vertical and horizontal center of a cutout.
    samples = tf.random.stateless_uniform([layers, 4], seed)
    strengths = tf.constant([_strength(name, magnitude, _RAND_TRANSLATION) for name in RAND_AUGMENT])
    result = image = tf.convert_to_tensor(image)
    for layer in tf.unstack(samples):
        index = tf.cast(layer[0] * len(RAND_AUGMENT), tf.int32)
        result = _apply(result, index, RAND_AUGMENT, strengths[index], layer[1], layer[2:])
    return tf.ensure_shape(result, image.shape)


def _strength(name, magnitude, translation):
    """Returns an operation's argument for a magnitude, float: a factor, gray levels, bits, degrees or pixels.

    Args:
        name: str.
        magnitude: float from 0 to 30.
        translation: Pixels of a translation at full strength.
    """
    fraction = magnitude / _MAX_MAGNITUDE
    if name in _WITHOUT_STRENGTH:
        return 0.0
    if name in _BY_FACTOR:
        return fraction * 1.8 + 0.1
    if name == "Posterize":
        # At least one bit: the EfficientNet code's shift by 8 bits shifted by 7 in effect.
        return float(min(max(int(fraction * 4), 1), 8))
    if name == "Solarize":
        return float(min(int(fraction * 256), 256))
    integers = {"SolarizeAdd": 110, "Cutout": _CUTOUT}
    if name in integers:
        return float(int(fraction * integers[name]))
    return fraction * {"Rotate": 30.0, "ShearX": 0.3, "ShearY": 0.3}.get(name, translation)


def _apply(image, index, names, strength, sign, center=None):
    """Applies one of several operations; only that one is computed.

    Args:
        image: uint8 [height, width, 3].
        index: int32 [], the operation's index in `names`.
        names: Sequence of str, or None for no change.
        strength: float32 [], from `_strength`.
        sign: float32 [] in [0, 1); from 0.5 on, an operation of _SIGNED gets the negative strength.
        center: float32 [2] in [0, 1), vertical and horizontal center of a cutout.
    """

    def apply(name):
        if name is None:
            return image
        if name in _WITHOUT_STRENGTH:
            return _WITHOUT_STRENGTH[name](image)
        if name in _BY_FACTOR:
            return _BY_FACTOR[name](image, strength)
        if name in _SIGNED:
            return _SIGNED[name](image, tf.where(sign < 0.5, strength, -strength), _FILL)
        if name in _BY_LEVEL:
            return _BY_LEVEL[name](image, tf.cast(strength, tf.int32))
        return _cutout(image, tf.cast(strength, tf.int32), center)

    return tf.switch_case(index, [functools.partial(apply, name) for name in names])


def _cutout(image, half, center):
    """Fills a square of 2 * half pixels per side, clipped to the image, with gray."""
    size = tf.shape(image)[:2]
    middle = tf.cast(center * tf.cast(size, tf.float32), tf.int32)
    start, stop = tf.maximum(middle - half, 0), tf.minimum(middle + half, size)
    patch = tf.fill(tf.concat([stop - start, [3]], 0), tf.constant(_FILL, image.dtype))
    return paste(image, patch, start[0], start[1])
