"""Operations on one image, from encoded bytes to the network's input: decode, crop, resize, augment, normalize."""

import tensorflow as tf

from convzoo.data import labels
from convzoo.data.color_jitter import color_jitter
from convzoo.data.decoding import decode_and_crop, decode_image
from convzoo.data.policies import auto_augment, rand_augment
from convzoo.data.random_erasing import random_erasing
from convzoo.data.source import IGNORED

_MAX_CROP_ATTEMPTS = 10
# Of pixels outside an image.
GRAY = 128
# Of a crop around objects: the least share of an object that it shows, one of these at random, or the whole image.
_OBJECT_COVERAGES = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9)
_MAX_OBJECT_CROP_ATTEMPTS = 50


def eval_transform(image, *, image_size, mean, std, crop_fraction, interpolation):
    """Preprocesses images for evaluation and serving: center crop, resize, normalize.

    The crop is a square with `crop_fraction` times the shorter side, rounded down as in the published networks' code,
    and at least one pixel.

    Args:
        image: uint8 or float [height, width, channels] or [n, height, width, channels] on 0..255, of any static or
            dynamic size, with 1 (gray), 2 (gray, alpha), 3 or 4 (RGBA) channels.
        image_size: (height, width) of the result in pixels; None for those of the image.
        mean, std: Three numbers on 0..255; the result is (pixel - mean) / std.
        crop_fraction: float in (0, 1], or None to resize the whole image whatever its aspect ratio.
        interpolation: "bicubic" or "bilinear".

    Returns:
        float32 [height, width, 3] or [n, height, width, 3].

    Example:
        >>> image = tf.fill([40, 30, 3], tf.constant(255, tf.uint8))
        >>> settings = {"image_size": (8, 8), "crop_fraction": 0.875, "interpolation": "bilinear"}
        >>> eval_transform(image, mean=(127.5,) * 3, std=(127.5,) * 3, **settings)[0, 0].numpy().tolist()
        [1.0, 1.0, 1.0]
    """
    if crop_fraction is not None:
        height, width = tf.shape(image)[-3], tf.shape(image)[-2]
        side = tf.cast(tf.cast(tf.minimum(height, width), tf.float32) * crop_fraction, tf.int32)
        side = tf.maximum(side, 1)
        top, left = (height - side + 1) // 2, (width - side + 1) // 2
        image = image[..., top : top + side, left : left + side, :]
    # In float32, because LiteRT resizes uint8 to uint8.
    image = tf.cast(image, tf.float32)
    image = _to_rgb(image) if image_size is None else _resize(image, image_size, interpolation)
    return normalize(image, mean, std)


def train_transform(image, label, seed, *, image_size, interpolation, augmentation):
    """Augments one training image, except for mixing and normalization. All randomness comes from the seed.

    Args:
        image: uint8 [height, width, channels], or string [] with its encoded bytes.
        label: Its label of any kind, see `labels`. A map or boxes are cropped, resized and mirrored with the image.
        seed: int64 [2].
        image_size: (height, width) of the result in pixels.
        interpolation: "bicubic" or "bilinear".
        augmentation: Augmentation.

    Returns:
        The image on 0..255, [height, width, 3]: uint8 if augmentation.works_on_bytes, else float32. And the label.
    """
    kind = labels.kind_of(label)
    crop_seed, flip_seed, jitter_seed, policy_seed, erasing_seed = tf.unstack(tf.random.split(seed, 5))

    def sample_crop(shape):
        if kind == "boxes":
            boxes = label["boxes"]
            return sample_box_around(shape, boxes, crop_seed, augmentation.crop_area, augmentation.crop_aspect)
        return sample_box(shape, crop_seed, augmentation.crop_area, augmentation.crop_aspect)

    has_crop = augmentation.crop_area is not None
    if image.dtype == tf.string and has_crop and kind == "class":
        image = decode_and_crop(image, sample_crop)
    else:
        image = decode_image(image, rotate=kind == "class") if image.dtype == tf.string else image
        if has_crop:
            shape = tf.shape(image)
            box = sample_crop(shape)
            image, label = _crop(image, box), labels.crop(label, box, shape)
        elif augmentation.scale_jitter is not None:
            image, label = _jitter_scale(image, label, crop_seed, augmentation.scale_jitter, image_size)
        elif augmentation.crop_padding is not None:
            image = _padded_crop(image, crop_seed, augmentation.crop_padding)
    image = _resize(image, image_size, interpolation)
    label = labels.resize(label, image_size)
    if augmentation.works_on_bytes:
        image = tf.cast(tf.clip_by_value(image + 0.5, 0.0, 255.0), tf.uint8)
    if augmentation.flip:
        is_mirrored = tf.random.stateless_uniform([], flip_seed) < 0.5
        image = tf.cond(is_mirrored, lambda: tf.reverse(image, [1]), lambda: image)
        if kind != "class":
            label = tf.cond(is_mirrored, lambda: labels.mirror(label), lambda: label)
    if augmentation.color_jitter is not None:
        image = color_jitter(image, jitter_seed, *augmentation.color_jitter)
    if augmentation.auto_augment:
        image = auto_augment(image, policy_seed)
    if augmentation.rand_augment is not None:
        image = rand_augment(image, policy_seed, *augmentation.rand_augment)
    if augmentation.random_erasing:
        image = random_erasing(image, erasing_seed, augmentation.random_erasing)
    return image, label


def sample_box(shape, seed, area, aspect):
    """Samples the box of an Inception crop (Szegedy et al., "Going deeper with convolutions", section 6).

    The EfficientNet code differs: it also requires a tenth of the image's area, and falls back to a padded center
    crop.

    Args:
        shape: int32 [3], the image's height, width, channels.
        seed: int64 [2].
        area: (lowest, highest) fraction of the image's area.
        aspect: (lowest, highest) width / height.

    Returns:
        int32 [4]: top, left, height, width; the whole image if ten attempts do not fit.
    """
    begin, size, _ = tf.image.stateless_sample_distorted_bounding_box(
        shape,
        bounding_boxes=tf.constant([0.0, 0.0, 1.0, 1.0], shape=[1, 1, 4]),
        seed=seed,
        min_object_covered=0.0,  # the object is the whole image, so more would only restrict the area
        aspect_ratio_range=aspect,
        area_range=area,
        max_attempts=_MAX_CROP_ATTEMPTS,
        use_image_if_no_bounding_boxes=True,
    )
    return tf.concat([begin[:2], size[:2]], 0)


def sample_box_around(shape, boxes, seed, area, aspect):
    """Samples the window of SSD's random crop (arXiv 1512.02325, section 2.2), which shows a part of an object.

    The part is a random share of the object's area, as in TensorFlow's Object Detection API; the paper takes the IoU of
    window and object. One window in seven is the whole image.

    Args:
        shape: int32 [3], the image's height, width, channels.
        boxes: float32 [n, 4], the objects. Without objects, any window will do.
        seed: int64 [2].
        area: (lowest, highest) fraction of the image's area.
        aspect: (lowest, highest) width / height.

    Returns:
        int32 [4]: top, left, height, width; the whole image if fifty attempts do not fit.
    """
    choice_seed, window_seed = tf.unstack(tf.random.split(seed, 2))
    choice = tf.random.stateless_uniform([], choice_seed, 0, len(_OBJECT_COVERAGES) + 1, tf.int32)
    begin, size, _ = tf.image.stateless_sample_distorted_bounding_box(
        shape,
        bounding_boxes=boxes[tf.newaxis],
        seed=window_seed,
        min_object_covered=tf.gather(tf.constant([*_OBJECT_COVERAGES, 0.0]), choice),
        aspect_ratio_range=aspect,
        area_range=area,
        max_attempts=_MAX_OBJECT_CROP_ATTEMPTS,
        use_image_if_no_bounding_boxes=True,
    )
    window, whole = tf.concat([begin[:2], size[:2]], 0), tf.concat([[0, 0], shape[:2]], 0)
    return tf.where(choice < len(_OBJECT_COVERAGES), window, whole)


def normalize(image, mean, std):
    """Returns float32 (pixel - mean) / std of images [..., height, width, 3] on 0..255."""
    shape, width = tf.shape(image), image.shape[-2]
    if width is None:
        width = tf.shape(image)[-2]
    # Rows of width * 3 numbers: broadcasting three numbers takes several times as long on the CPU.
    rows = tf.cast(tf.reshape(image, tf.concat([shape[:-2], [3 * width]], 0)), tf.float32)
    # Multiply by the reciprocal in float64 precision; TensorFlow would replace a division by a less precise one.
    mean, scale = (tf.tile(tf.constant(three, tf.float32), [width]) for three in (mean, [1.0 / x for x in std]))
    return tf.ensure_shape(tf.reshape((rows - mean) * scale, shape), image.shape)


def _crop(image, box):
    top, left, height, width = tf.unstack(box)
    return image[top : top + height, left : left + width, :]


def _jitter_scale(image, label, seed, scales, image_size):
    """Returns the part of an image and its map that `image_size` shows at a random scale, filled up with gray."""
    scale_seed, position_seed = tf.unstack(tf.random.split(seed, 2))
    scale = tf.random.stateless_uniform([], scale_seed, *scales)
    window = tf.maximum(tf.cast(tf.round(tf.cast(image_size, tf.float32) / scale), tf.int32), 1)
    # The window begins anywhere in a larger image; a smaller one lies anywhere in the window.
    free = tf.shape(image)[:2] - window
    share = tf.random.stateless_uniform([2], position_seed)
    begin = tf.cast(tf.floor(share * (tf.cast(tf.abs(free), tf.float32) + 1.0)), tf.int32)
    before = tf.where(free < 0, begin, 0)
    padding = tf.stack([before, tf.maximum(-free, 0) - before], 1)
    image = tf.pad(image, tf.concat([padding, [[0, 0]]], 0), constant_values=tf.cast(GRAY, image.dtype))
    label = tf.pad(label, padding, constant_values=tf.cast(IGNORED, label.dtype))
    box = tf.concat([tf.where(free < 0, 0, begin), window], 0)
    return _crop(image, box), labels.crop(label, box, tf.shape(image))


def _padded_crop(image, seed, padding):
    """Returns a random crop of the image's own size from the image with `padding` black pixels on each side."""
    top, left = tf.unstack(tf.random.stateless_uniform([2], seed, 0, 2 * padding + 1, tf.int32))
    height, width = tf.shape(image)[0], tf.shape(image)[1]
    image = tf.pad(image, [[padding, padding], [padding, padding], [0, 0]])
    return image[top : top + height, left : left + width, :]


def _resize(image, image_size, interpolation):
    """Resizes to float32 [..., height, width, 3], not clipped to 0..255.

    There is no antialiasing, because the published networks were trained and evaluated without it, and LiteRT has no
    kernel for it.
    """
    image = tf.image.resize(image, image_size, method=interpolation, antialias=False)
    return _to_rgb(tf.cast(image, tf.float32))  # cast: tf.image.resize returns an image of that size unchanged


def _to_rgb(image):
    """Converts [..., 1 to 4 channels], static or dynamic, to [..., 3]: repeats gray and drops alpha."""
    channels = image.shape[-1]
    if channels == 3:
        return image
    if channels is None:
        channels = tf.shape(image)[-1]
        colors = tf.where(channels >= 3, 3, 1)
    else:
        colors = 3 if channels >= 3 else 1
    image = image[..., :colors]
    return tf.broadcast_to(image, tf.concat([tf.shape(image)[:-1], [3]], 0))
