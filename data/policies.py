"""AutoAugment and RandAugment: a few operations on a picture, drawn from a policy.

Numbers and scales are those of the EfficientNet code, of which the published weights come. Operations do what PIL does.
"""

import tensorflow as tf

from convzoo.data import colour, geometry
from convzoo.data.erasing import paste

# The policy "v0" for ImageNet, with which EfficientNets were trained (it is not the one in the tables of arXiv
# 1805.09501): each row is a sub-policy of two (operation, probability, magnitude 0..10).
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

# The operations among which RandAugment (arXiv 1909.13719) draws.
RAND_AUGMENT = (
    "AutoContrast",
    "Equalize",
    "Invert",
    "Rotate",
    "Posterize",
    "Solarize",
    "Color",
    "Contrast",
    "Brightness",
    "Sharpness",
    "ShearX",
    "ShearY",
    "TranslateX",
    "TranslateY",
    "Cutout",
    "SolarizeAdd",
)

_SCALE = 10.0  # the magnitude at which an operation has its full strength
_GREY = 128  # of pixels that an operation leaves empty
_AUTO_TRANSLATION, _RAND_TRANSLATION = 250, 100  # pixels at full strength
_CUTOUT = 40  # pixels, half a side at full strength

_WITHOUT_STRENGTH = {"AutoContrast": colour.auto_contrast, "Equalize": colour.equalize, "Invert": colour.invert}
_BY_FACTOR = {
    "Brightness": colour.brightness,
    "Color": colour.saturation,
    "Contrast": colour.contrast,
    "Sharpness": colour.sharpness,
}
_BY_LEVEL = {"Posterize": colour.posterize, "Solarize": colour.solarize, "SolarizeAdd": colour.solarize_add}
_EITHER_WAY = {
    "Rotate": geometry.rotate,
    "ShearX": geometry.shear_x,
    "ShearY": geometry.shear_y,
    "TranslateX": geometry.translate_x,
    "TranslateY": geometry.translate_y,
}


def auto_augment(image, seed):
    """Apply one sub-policy of AUTO_AUGMENT, all as likely: each of its two operations with its probability.

    Args:
        image: uint8 [height, width, 3].
        seed: int64 [2].

    Returns:
        uint8 [height, width, 3].
    """
    # The sub-policy; then for each of its two operations whether it is applied; then for each which way.
    draws = tf.random.stateless_uniform([5], seed)
    row = tf.cast(draws[0] * len(AUTO_AUGMENT), tf.int32)
    changed = image = tf.convert_to_tensor(image)
    for position, column in enumerate(zip(*AUTO_AUGMENT, strict=True)):
        names = sorted({name for name, _, _ in column})
        numbers = tf.constant([1 + names.index(name) for name, _, _ in column])
        table = tf.constant([(chance, _strength(name, level, _AUTO_TRANSLATION)) for name, chance, level in column])
        chance, strength = tf.unstack(table[row])
        which = tf.where(draws[1 + position] < chance, numbers[row], 0)
        changed = _apply(changed, which, [None, *names], strength, draws[3 + position])
    return tf.ensure_shape(changed, image.shape)


def rand_augment(image, seed, layers, magnitude):
    """Apply operations of RAND_AUGMENT one after the other, all as likely, with one magnitude.

    Args:
        image: uint8 [height, width, 3].
        seed: int64 [2].
        layers: int, how many operations.
        magnitude: float, how strong they are: 0 to 10 on the published scale, up to 30 in its authors' searches.

    Returns:
        uint8 [height, width, 3].
    """
    # For each layer the operation, which way, and the centre of a cutout from the top and from the left.
    draws = tf.random.stateless_uniform([layers, 4], seed)
    strengths = tf.constant([_strength(name, magnitude, _RAND_TRANSLATION) for name in RAND_AUGMENT])
    changed = image = tf.convert_to_tensor(image)
    for numbers in tf.unstack(draws):
        which = tf.cast(numbers[0] * len(RAND_AUGMENT), tf.int32)
        changed = _apply(changed, which, RAND_AUGMENT, strengths[which], numbers[1], numbers[2:])
    return tf.ensure_shape(changed, image.shape)


def _strength(name, magnitude, translation):
    """float, what an operation makes of a magnitude: a factor, grey levels, bits, degrees or pixels.

    Args:
        name: str.
        magnitude: float from 0 to 30.
        translation: float, pixels of a translation at full strength.
    """
    part = magnitude / _SCALE
    if name in _WITHOUT_STRENGTH:
        return 0.0
    if name in _BY_FACTOR:
        return part * 1.8 + 0.1
    if name == "Posterize":
        # Between the bits that a pixel has and one: shifting by 8 bits shifted by 7 in the EfficientNet code.
        return float(min(max(int(part * 4), 1), 8))
    if name == "Solarize":
        return float(min(int(part * 256), 256))
    whole = {"SolarizeAdd": 110, "Cutout": _CUTOUT}
    if name in whole:
        return float(int(part * whole[name]))
    return part * {"Rotate": 30.0, "ShearX": 0.3, "ShearY": 0.3}.get(name, translation)


def _apply(image, which, names, strength, way, centre=None):
    """Apply one operation of several; only that one is computed.

    Args:
        image: uint8 [height, width, 3].
        which: int32 [], the number of its name.
        names: sequence of str, or None for no change.
        strength: float32 [], as `_strength` gives it.
        way: float32 [], from 0.5 the sign of a strength that goes both ways is turned.
        centre: float32 [2], where a cutout lies from the top and the left, as parts of the picture.
    """

    def branch(name):
        def changed():
            if name is None:
                return image
            if name in _WITHOUT_STRENGTH:
                return _WITHOUT_STRENGTH[name](image)
            if name in _BY_FACTOR:
                return _BY_FACTOR[name](image, strength)
            if name in _EITHER_WAY:
                return _EITHER_WAY[name](image, tf.where(way < 0.5, strength, -strength), _GREY)
            if name in _BY_LEVEL:
                return _BY_LEVEL[name](image, tf.cast(strength, tf.int32))
            return _cutout(image, tf.cast(strength, tf.int32), centre)

        return changed

    return tf.switch_case(which, [branch(name) for name in names])


def _cutout(image, half, centre):
    """Make a square of 2 * half pixels a side grey, of which the parts outside the picture are cut off."""
    size = tf.shape(image)[:2]
    middle = tf.cast(centre * tf.cast(size, tf.float32), tf.int32)
    first, end = tf.maximum(middle - half, 0), tf.minimum(middle + half, size)
    patch = tf.fill(tf.concat([end - first, [3]], 0), tf.constant(_GREY, image.dtype))
    return paste(image, patch, first[0], first[1])
