"""Decoding of image files: formats, size limit, rotation and transparency, alike in training, evaluation and serving.

JPEG, PNG, BMP without a palette, GIF and still WebP images are decoded; of an animated GIF the first frame. The Exif
orientation of a JPEG file is applied, as image viewers do. Transparency is dropped.

The functions consist of few ops, because TensorFlow visits each of them for every image, in branches that are not taken
too.
"""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

MAX_PIXELS = 50_000_000
FORMATS = "JPEG, PNG, BMP, GIF or still WebP"
_JPEG_RATIOS = (1, 2, 4, 8)  # the decoder can leave out so many pixels per side
_JPEG = b"\xff\xd8\xff"
_EXIF_BYTES = 4096  # Exif data come first, and their first directory comes first in them
# An entry of an Exif directory up to its value: tag 0x0112, type 3 (16 bits), count 1. Either byte may come first.
_ORIENTATION = (b"\x12\x01\x03\x00\x01\x00\x00\x00", b"\x01\x12\x00\x03\x00\x00\x00\x01\x00")


class _Header(NamedTuple):
    """Where a format has its signature, and height and width: bytes, least significant first, minus an offset."""

    signature: dict[int, bytes]
    height: tuple[int, ...]
    width: tuple[int, ...]
    shifts: tuple[int, int] = (0, 0)
    mask: int = 2**32 - 1
    offset: int = 0


_WEBP = {0: b"RIFF", 8: b"WEBPVP8"}
_BMP = _Header({0: b"BM"}, (22, 23, 24, 25), (18, 19, 20, 21))
_HEADERS = (
    _Header({0: b"\x89PNG\r\n\x1a\n"}, (23, 22, 21, 20), (19, 18, 17, 16)),
    _Header({0: b"GIF8"}, (8, 9), (6, 7)),
    _BMP,
    _Header({**_WEBP, 15: b" "}, (28, 29), (26, 27), mask=2**14 - 1),
    _Header({**_WEBP, 15: b"L"}, (21, 22, 23, 24), (21, 22, 23, 24), shifts=(14, 0), mask=2**14 - 1, offset=1),
    _Header({**_WEBP, 15: b"X"}, (27, 28, 29), (24, 25, 26), offset=1),
)
_HEADER_BYTES = 32


def decode_image(encoded, max_pixels=MAX_PIXELS, rotate=True):
    """Decodes one image.

    Args:
        encoded: string [], the bytes of a JPEG, PNG, BMP, GIF or still WebP file.
        max_pixels: Largest number of pixels. A larger JPEG image is decoded at a half, a quarter or an eighth of its
            height and width. Other images, and JPEG images that are larger even then, are refused before they take
            memory. Of a GIF file, the logical screen counts; its frames can be larger.
        rotate: bool, whether to apply the Exif orientation. A label map belongs to the image as it is stored.

    Returns:
        uint8 [height, width, 3]. Gray is repeated, transparency is dropped, 16-bit values become 8-bit.

    Raises:
        tf.errors.InvalidArgumentError: The image is corrupt, too large, or has another format.

    Example:
        >>> decode_image(tf.io.encode_png(tf.zeros([4, 6, 1], tf.uint8))).shape
        TensorShape([4, 6, 3])
    """
    encoded = tf.convert_to_tensor(encoded)

    def decode_jpeg():
        pixels = tf.reduce_prod(tf.cast(tf.io.extract_jpeg_shape(encoded)[:2], tf.float32))
        decoders = [lambda ratio=ratio: tf.io.decode_jpeg(encoded, channels=3, ratio=ratio) for ratio in _JPEG_RATIOS]
        limits = tf.constant([float(max_pixels * ratio**2) for ratio in _JPEG_RATIOS])
        with tf.control_dependencies([_assert_size(pixels, limits[-1])]):
            index = tf.reduce_sum(tf.cast(pixels > limits[:-1], tf.int32))
        return tf.switch_case(index, decoders)

    return _decode(
        encoded, max_pixels, lambda: _turn(decode_jpeg(), exif_orientation(encoded)) if rotate else decode_jpeg()
    )


def decode_and_crop(encoded, sample_box):
    """Decodes a part of an image; of a JPEG file only the blocks that the part touches, at full scale.

    Args:
        encoded: As for `decode_image`.
        sample_box: Function of the rotated image's shape, int32 [3], to the box int32 [4]: top, left, height, width.

    Returns:
        uint8 [height, width, 3].
    """

    def crop_jpeg():
        orientation, shape = exif_orientation(encoded), tf.io.extract_jpeg_shape(encoded)
        box = tf.cond(
            orientation > 1,
            lambda: _turn_back(sample_box(_turned_shape(shape, orientation)), shape, orientation),
            lambda: sample_box(shape),
        )
        return _turn(tf.image.decode_and_crop_jpeg(encoded, box, channels=3), orientation)

    def crop(image):
        top, left, height, width = tf.unstack(sample_box(tf.shape(image)))
        return image[top : top + height, left : left + width]

    return _decode(encoded, MAX_PIXELS, crop_jpeg, crop)


def has_known_format(encoded):
    """Returns whether an encoded image, string [], begins like one of the formats of `decode_image`: bool []."""
    head = _head(encoded)
    is_other = tf.reduce_any(_matches(head)) & tf.logical_not(_is_animated_webp(head) | _is_palette_bmp(head))
    return (tf.strings.substr(encoded, 0, len(_JPEG)) == tf.constant(_JPEG)) | is_other


def stored_size(encoded):
    """Returns height and width in the header of an image that is not JPEG, int64 [2]; 0 if the format is unknown.

    Args:
        encoded: string [].
    """
    head = _head(encoded)
    weights = np.zeros([len(_HEADERS), 2, _HEADER_BYTES], np.int64)
    for index, header in enumerate(_HEADERS):
        for side, positions in enumerate((header.height, header.width)):
            weights[index, side, list(positions)] = 256 ** np.arange(len(positions))
    numbers = tf.reduce_sum(tf.constant(weights) * tf.cast(head, tf.int64), axis=2)
    numbers = tf.bitwise.right_shift(numbers, np.array([header.shifts for header in _HEADERS], np.int64))
    numbers = tf.bitwise.bitwise_and(numbers, np.array([[header.mask] for header in _HEADERS], np.int64))
    sizes = numbers + np.array([[header.offset] for header in _HEADERS], np.int64)
    size = tf.reduce_sum(tf.where(_matches(head)[:, tf.newaxis], sizes, 0), axis=0)
    return tf.minimum(size, 2**32 - size)  # BMP has a negative height if the top row comes first


def image_size(encoded, rotate=True):
    """Returns height and width of an image in pixels, also of one that `decode_image` reduces: int32 [2].

    Args:
        encoded: string [], of a format of `decode_image`.
        rotate: Whether the Exif orientation of a JPEG file is applied.
    """

    def jpeg_size():
        shape = tf.io.extract_jpeg_shape(encoded)
        return (_turned_shape(shape, exif_orientation(encoded)) if rotate else shape)[:2]

    size = tf.cond(tf.io.is_jpeg(encoded), jpeg_size, lambda: tf.cast(stored_size(encoded), tf.int32))
    return tf.ensure_shape(size, [2])


def exif_orientation(encoded):
    """Returns the Exif orientation of a JPEG file, int32 [] from 1 to 8; 1, upright, where the file names none.

    Args:
        encoded: string [].
    """
    exif = _after(tf.strings.substr(encoded, 0, _EXIF_BYTES), b"Exif\0\0")
    first = tf.strings.substr(tf.strings.join([*(_after(exif, entry) for entry in _ORIENTATION), b"\1"]), 0, 1)
    value = tf.cast(tf.io.decode_raw(first, tf.uint8)[0], tf.int32)
    return tf.where((value >= 1) & (value <= 8), value, 1)


def _after(text, separator):
    """Returns what follows the first separator in a string []; "" if there is none."""
    return tf.strings.reduce_join(tf.raw_ops.StringSplitV2(input=[text], sep=separator, maxsplit=1).values[1:])


def _head(encoded):
    """Returns the first bytes of a file, uint8 [_HEADER_BYTES], padded with zeros."""
    head = tf.strings.join([tf.strings.substr(encoded, 0, _HEADER_BYTES), bytes(_HEADER_BYTES)])
    return tf.io.decode_raw(head, tf.uint8)[:_HEADER_BYTES]


def _matches(head):
    """Returns whether the first bytes of a file have the signature of each of _HEADERS: bool [headers]."""
    signatures = np.full([len(_HEADERS), _HEADER_BYTES], -1, np.int16)
    for index, header in enumerate(_HEADERS):
        for position, part in header.signature.items():
            signatures[index, position : position + len(part)] = [*part]
    return tf.reduce_all((signatures < 0) | (tf.cast(head, tf.int16) == signatures), axis=1)


def _is_palette_bmp(head):
    """Returns whether the image is a BMP file with a palette: TensorFlow would return the indices of the colors."""
    return _matches(head)[_HEADERS.index(_BMP)] & (head[28] < 24)


def _is_animated_webp(head):
    return _matches(head)[-1] & (tf.bitwise.bitwise_and(head[20], 2) != 0)


def _decode(encoded, max_pixels, jpeg, finish=lambda image: image):
    """Returns `jpeg()` for a JPEG file and `finish(image)` for others."""

    def other():
        pixels = tf.reduce_prod(stored_size(encoded))
        head = _head(encoded)
        is_still, has_colors = tf.logical_not(_is_animated_webp(head)), tf.logical_not(_is_palette_bmp(head))
        # tf.debugging.Assert would add branches of its own.
        checks = [
            _assert_size(pixels, max_pixels),
            # TensorFlow crashes when it decodes only the first frame.
            tf.raw_ops.Assert(condition=is_still, data=["animated WebP images are not supported"]),
            tf.raw_ops.Assert(condition=has_colors, data=["BMP images with a palette are not supported"]),
        ]
        with tf.control_dependencies(checks):
            content = tf.identity(encoded)
        # Of the formats, only WebP cannot drop transparency itself.
        is_webp = tf.strings.substr(tf.strings.join([content, bytes(16)]), 8, 4) == tf.constant(b"WEBP")
        image = tf.cond(
            is_webp,
            lambda: tf.io.decode_image(content, channels=0, expand_animations=False)[..., :3],
            lambda: tf.io.decode_image(content, channels=3, expand_animations=False),
        )
        return finish(tf.ensure_shape(image, [None, None, 3]))

    # Decided by the bytes, not by the file name: ImageNet has a PNG file called .JPEG.
    return tf.ensure_shape(tf.cond(tf.io.is_jpeg(encoded), jpeg, other), [None, None, 3])


def _assert_size(pixels, limit):
    message = ["the image has too many pixels:", pixels, "; the limit is", limit]
    return tf.raw_ops.Assert(condition=pixels <= limit, data=message)


def _turn(image, orientation):
    """Turns and mirrors an image as its Exif orientation says."""

    def turn():
        turned = tf.cond(orientation >= 5, lambda: tf.transpose(image, [1, 0, 2]), lambda: image)
        # tf.reverse mirrors along each axis that is named once.
        return tf.raw_ops.Reverse(tensor=turned, dims=tf.concat([_mirrored(orientation), [False]], 0))

    return tf.cond(orientation > 1, turn, lambda: image)


def _turned_shape(shape, orientation):
    return tf.where(orientation >= 5, tf.gather(shape, [1, 0, 2]), shape)


def _turn_back(box, shape, orientation):
    """Returns where a box of the turned image is in the stored image."""
    begin, size = box[:2], box[2:]
    begin = tf.where(_mirrored(orientation), _turned_shape(shape, orientation)[:2] - begin - size, begin)
    box = tf.concat([begin, size], 0)
    return tf.where(orientation >= 5, tf.gather(box, [1, 0, 3, 2]), box)


def _mirrored(orientation):
    """Returns whether an orientation mirrors the rows and the columns after the turn: bool [2]."""
    rows = np.isin(np.arange(9), (3, 4, 7, 8))
    columns = np.isin(np.arange(9), (2, 3, 6, 7))
    return tf.gather(np.stack([rows, columns], 1), orientation)
