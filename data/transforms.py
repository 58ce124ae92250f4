"""From a picture to what a network reads: crop, resize, flip, normalise."""

import tensorflow as tf

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
    return _normalise(_resize(image, image_size, interpolation), mean, std)


def train_transform(image, seed, *, image_size, mean, std, crop_area, crop_aspect, flip, interpolation):
    """What training does to a picture; all chance comes from the seed.

    Args:
        image: uint8 [height, width, channels], or string [] of its encoded bytes.
        seed: int64 [2].
        image_size, mean, std, interpolation: as for `eval_transform`.
        crop_area: (lowest, highest) part of the picture's area that a crop covers, or None: only resize.
        crop_aspect: (lowest, highest) width / height of a crop.
        flip: bool, mirror half of the pictures.

    Returns:
        float32 [height, width, 3].
    """
    crop_seed, flip_seed = tf.unstack(tf.random.split(seed, 2))
    if crop_area is None:
        image = decode_image(image) if image.dtype == tf.string else image
    elif image.dtype == tf.string:
        image = _decode_and_crop(image, lambda shape: sample_box(shape, crop_seed, crop_area, crop_aspect))
    else:
        image = _crop(image, sample_box(tf.shape(image), crop_seed, crop_area, crop_aspect))
    image = _resize(image, image_size, interpolation)
    if flip:
        image = tf.image.stateless_random_flip_left_right(image, flip_seed)
    return _normalise(image, mean, std)


def train_transform_with_map(image, label, seed, *, image_size, mean, std, crop_area, crop_aspect, flip, interpolation):
    """`train_transform` of a picture, and the same of the labels of its pixels, by nearest neighbours.

    Args and returns as there, besides label: uint8 [height, width], which becomes int32 [height, width].
    """
    crop_seed, flip_seed = tf.unstack(tf.random.split(seed, 2))
    image = decode_image(image) if image.dtype == tf.string else image
    if crop_area is not None:
        box = sample_box(tf.shape(image), crop_seed, crop_area, crop_aspect)
        image, label = _crop(image, box), _crop(label[..., tf.newaxis], box)[..., 0]
    image, label = _resize(image, image_size, interpolation), resize_map(label, image_size)
    if flip:
        image = tf.image.stateless_random_flip_left_right(image, flip_seed)
        label = tf.image.stateless_random_flip_left_right(label[..., tf.newaxis], flip_seed)[..., 0]
    return _normalise(image, mean, std), label


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


def _resize(image, image_size, interpolation):
    """Resize to float32 [..., height, width, 3], not clipped to 0..255.

    Without antialiasing, as the published networks were trained and measured; with it their accuracy falls unless they
    are trained again, and the operation has no kernel in LiteRT.
    """
    image = tf.image.resize(tf.cast(image, tf.float32), image_size, method=interpolation, antialias=False)
    return _to_rgb(image)


def _to_rgb(image):
    """Repeat grey, drop alpha: [..., 1 to 4] to [..., 3]; the number of channels may be unknown."""
    channels = image.shape[-1]
    if channels is None:
        channels = tf.shape(image)[-1]
        colours = tf.where(channels >= 3, 3, 1)
    else:
        colours = 3 if channels >= 3 else 1
    image = image[..., :colours]
    return tf.broadcast_to(image, tf.concat([tf.shape(image)[:-1], [3]], 0))


def _normalise(image, mean, std):
    return (image - tf.constant(mean, tf.float32)) / tf.constant(std, tf.float32)
