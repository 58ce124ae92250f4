"""From a picture to what a network reads: decode, crop, resize, augment, normalise."""

import tensorflow as tf

from convzoo.data.erasing import random_erasing
from convzoo.data.jitter import colour_jitter
from convzoo.data.policies import auto_augment, rand_augment

_ATTEMPTS = 10  # of the Inception crop; then the whole picture is taken


def decode_image(encoded):
    """Decode one picture.

    Args:
        encoded: string [], the bytes of a JPEG, PNG, GIF (its first frame) or colour BMP.

    Returns:
        uint8 [height, width, 3]; grey is repeated, transparency dropped, 16 bits become 8.
    """
    image = tf.io.decode_image(encoded, channels=3, expand_animations=False)
    return tf.ensure_shape(image, [None, None, 3])


def eval_transform(image, *, image_size, mean, std, crop_fraction, interpolation):
    """What evaluation and serving do to a picture: cut the square of its middle, resize it, normalise it.

    The side is crop_fraction times the shorter side, rounded down as the published networks' code does it, and at
    least one pixel. Without a crop_fraction the picture is taken whole, whatever its shape.

    Args:
        image: uint8 or float [height, width, channels] or [n, height, width, channels] on the scale 0..255; any size,
            known or not; 1 (grey), 2 (grey, alpha), 3 or 4 (RGBA) channels.
        image_size: (height, width) of the result in pixels.
        mean, std: three numbers on the scale 0..255.
        crop_fraction: float in (0, 1], or None.
        interpolation: "bicubic" or "bilinear".

    Returns:
        float32 [height, width, 3] or [n, height, width, 3].
    """
    if crop_fraction is not None:
        height, width = tf.shape(image)[-3], tf.shape(image)[-2]
        side = tf.cast(tf.cast(tf.minimum(height, width), tf.float32) * crop_fraction, tf.int32)
        side = tf.maximum(side, 1)
        top, left = (height - side + 1) // 2, (width - side + 1) // 2
        image = image[..., top : top + side, left : left + side, :]
    # In floats, because LiteRT resizes bytes to bytes.
    return normalise(_resize(tf.cast(image, tf.float32), image_size, interpolation), mean, std)


def train_transform(image, seed, *, image_size, interpolation, augmentation):
    """What training does to a picture before it is mixed and normalised; all chance comes from the seed.

    Args:
        image: uint8 [height, width, channels], or string [] of its encoded bytes.
        seed: int64 [2].
        image_size, interpolation: as for `eval_transform`.
        augmentation: Augmentation; mixing is not done here.

    Returns:
        On the scale 0..255, [height, width, 3]: uint8 where augmentation.works_on_bytes, else float32.
    """
    of_crop, of_flip, of_jitter, of_policy, of_erasing = tf.unstack(tf.random.split(seed, 5))
    if augmentation.crop_area is not None:

        def box(shape):
            return sample_box(shape, of_crop, augmentation.crop_area, augmentation.crop_aspect)

        image = _decode_and_crop(image, box) if image.dtype == tf.string else _crop(image, box(tf.shape(image)))
    else:
        image = decode_image(image) if image.dtype == tf.string else image
        if augmentation.crop_padding:
            image = _padded_crop(image, of_crop, augmentation.crop_padding)
    image = _resize(image, image_size, interpolation)
    if augmentation.works_on_bytes:
        image = tf.cast(tf.clip_by_value(image + 0.5, 0.0, 255.0), tf.uint8)
    if augmentation.flip:
        image = tf.cond(_is_mirrored(of_flip), lambda: tf.reverse(image, [1]), lambda: image)
    if any(augmentation.jitter):
        image = colour_jitter(image, of_jitter, *augmentation.jitter)
    if augmentation.auto_augment:
        image = auto_augment(image, of_policy)
    if augmentation.rand_augment:
        image = rand_augment(image, of_policy, *augmentation.rand_augment)
    if augmentation.erasing:
        image = random_erasing(image, of_erasing, augmentation.erasing)
    return image


def train_transform_with_map(image, label, seed, *, image_size, interpolation, augmentation):
    """`train_transform` of a picture, and the same of the labels of its pixels, by nearest neighbours.

    Args and returns as there, besides label: uint8 [height, width], which becomes int32 [height, width].
    """
    of_crop, of_flip, of_jitter = tf.unstack(tf.random.split(seed, 3))
    image = decode_image(image) if image.dtype == tf.string else image
    if augmentation.crop_area is not None:
        box = sample_box(tf.shape(image), of_crop, augmentation.crop_area, augmentation.crop_aspect)
        image, label = _crop(image, box), _crop(label[..., tf.newaxis], box)[..., 0]
    image, label = _resize(image, image_size, interpolation), resize_map(label, image_size)
    if augmentation.flip:
        image, label = tf.cond(
            _is_mirrored(of_flip), lambda: (tf.reverse(image, [1]), tf.reverse(label, [1])), lambda: (image, label)
        )
    if any(augmentation.jitter):
        image = tf.cast(tf.clip_by_value(image + 0.5, 0.0, 255.0), tf.uint8)
        image = colour_jitter(image, of_jitter, *augmentation.jitter)
    return image, label


def resize_map(label, image_size):
    """The labels uint8 [height, width] of pixels as int32 of another size, by nearest neighbours."""
    label = tf.image.resize(label[..., tf.newaxis], image_size, method="nearest")
    return tf.cast(label[..., 0], tf.int32)


def sample_box(shape, seed, area, aspect):
    """Draw the box of an Inception crop (Szegedy et al., "Going deeper with convolutions", section 6).

    The EfficientNet code asks besides for a tenth of the picture at least, which cuts its own lower bound of 0.08, and
    takes a padded centre crop where nothing fits.

    Args:
        shape: int32 [3], the picture's height, width, channels.
        seed: int [2].
        area: (lowest, highest) part of the picture's area.
        aspect: (lowest, highest) width / height.

    Returns:
        int32 [4]: top, left, height, width; the whole picture if ten attempts fit nowhere.
    """
    begin, size, _ = tf.image.stateless_sample_distorted_bounding_box(
        shape,
        bounding_boxes=tf.constant([0.0, 0.0, 1.0, 1.0], shape=[1, 1, 4]),
        seed=seed,
        min_object_covered=0.0,  # the whole picture is the object, so more would only narrow the area
        aspect_ratio_range=aspect,
        area_range=area,
        max_attempts=_ATTEMPTS,
        use_image_if_no_bounding_boxes=True,
    )
    return tf.concat([begin[:2], size[:2]], 0)


def _decode_and_crop(encoded, box_of):
    """Decode the part of a picture that box_of(shape) names: of a JPEG only the blocks that the box touches."""

    def from_jpeg():
        return tf.image.decode_and_crop_jpeg(encoded, box_of(tf.io.extract_jpeg_shape(encoded)), channels=3)

    def from_others():
        image = decode_image(encoded)
        return _crop(image, box_of(tf.shape(image)))

    # Asked of the bytes, not of the file's name: ImageNet has a PNG that is called .JPEG.
    return tf.cond(tf.io.is_jpeg(encoded), from_jpeg, from_others)


def _crop(image, box):
    top, left, height, width = tf.unstack(box)
    return image[top : top + height, left : left + width, :]


def _padded_crop(image, seed, padding):
    """The picture's own size, cut at random from the picture with `padding` black pixels on each side."""
    top, left = tf.unstack(tf.random.stateless_uniform([2], seed, 0, 2 * padding + 1, tf.int32))
    height, width = tf.shape(image)[0], tf.shape(image)[1]
    image = tf.pad(image, [[padding, padding], [padding, padding], [0, 0]])
    return image[top : top + height, left : left + width, :]


def _is_mirrored(seed):
    return tf.random.stateless_uniform([], seed) < 0.5


def _resize(image, image_size, interpolation):
    """Resize to float32 [..., height, width, 3], not clipped to 0..255.

    Without antialiasing, as the published networks were trained and measured; with it their accuracy falls unless they
    are trained again, and the operation has no kernel in LiteRT.
    """
    image = tf.image.resize(image, image_size, method=interpolation, antialias=False)
    # Resizing leaves a picture of that size as it is.
    return _to_rgb(tf.cast(image, tf.float32))


def _to_rgb(image):
    """Repeat grey, drop alpha: [..., 1 to 4] to [..., 3]; the number of channels may be unknown."""
    channels = image.shape[-1]
    if channels == 3:
        return image
    if channels is None:
        channels = tf.shape(image)[-1]
        colours = tf.where(channels >= 3, 3, 1)
    else:
        colours = 3 if channels >= 3 else 1
    image = image[..., :colours]
    return tf.broadcast_to(image, tf.concat([tf.shape(image)[:-1], [3]], 0))


def normalise(image, mean, std):
    """float32 (pixel - mean) / std of pictures [..., height, width, 3] on the scale 0..255."""
    shape, width = tf.shape(image), image.shape[-2]
    if width is None:
        width = tf.shape(image)[-2]
    # Row by row: on the CPU, operations with three numbers again and again take several times as long.
    rows = tf.cast(tf.reshape(image, tf.concat([shape[:-2], [3 * width]], 0)), tf.float32)
    # Times the reciprocal, which TensorFlow makes of the division besides, less precisely.
    mean, scale = (tf.tile(tf.constant(three, tf.float32), [width]) for three in (mean, [1.0 / x for x in std]))
    return tf.ensure_shape(tf.reshape((rows - mean) * scale, shape), image.shape)
