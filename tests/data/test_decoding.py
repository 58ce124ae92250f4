"""Decoding: formats, size limit, rotation and transparency, against Pillow."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageOps

from convzoo import data
from convzoo.data import decoding


def _file(kind, shape=(5, 7, 3), **options):
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, kind, **options)
    return content.getvalue()


def _pillow(encoded):
    return np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(encoded))).convert("RGB"), int)


_FILES = {
    "PNG": _file("PNG"),
    "PNG with alpha": _file("PNG", (5, 7, 4)),
    "JPEG": _file("JPEG"),
    "GIF": _file("GIF"),
    "BMP": _file("BMP"),
    "lossy WebP": _file("WEBP"),
    "lossless WebP": _file("WEBP", lossless=True),
    "WebP with alpha": _file("WEBP", (5, 7, 4), lossless=True),
    "extended WebP": _file("WEBP", (5, 7, 4), icc_profile=b"profile"),
}


@pytest.mark.parametrize("name", _FILES)
def test_decodes_like_pillow(name):
    encoded = _FILES[name]
    assert bool(decoding.has_known_format(tf.constant(encoded)))
    if name != "JPEG":
        np.testing.assert_array_equal(decoding.stored_size(tf.constant(encoded)), [5, 7])
    decode = tf.function(data.decode_image, input_signature=[tf.TensorSpec([], tf.string)])
    difference = np.abs(np.asarray(decode(encoded), int) - _pillow(encoded))
    assert difference.mean() < 3  # decoders of JPEG and WebP interpolate color differently


def _animation(kind):
    frames = [Image.fromarray(np.full((4, 6, 3), shade, np.uint8)) for shade in (200, 50)]
    content = io.BytesIO()
    frames[0].save(content, kind, save_all=True, append_images=frames[1:])
    return content.getvalue()


def test_animations():
    gif, webp = _animation("GIF"), _animation("WEBP")
    np.testing.assert_allclose(np.asarray(data.decode_image(gif), int), _pillow(gif), atol=2)  # the first frame
    assert not bool(decoding.has_known_format(tf.constant(webp)))
    with pytest.raises(tf.errors.InvalidArgumentError, match="animated WebP"):
        data.decode_image(webp)


@pytest.mark.parametrize("order", ["big", "little"])
@pytest.mark.parametrize("orientation", range(10))
def test_orientation(orientation, order):
    exif = Image.Exif()
    exif.endian = ">" if order == "big" else "<"
    exif[0x010E], exif[0x0112] = "description", orientation
    rows, columns = np.mgrid[0:40, 0:64]
    content = io.BytesIO()
    image = Image.fromarray(np.stack([rows * 6, columns * 4, rows + columns], -1).astype(np.uint8))
    image.save(content, "JPEG", exif=exif, quality=100, subsampling=0)
    encoded = tf.constant(content.getvalue())
    expected = _pillow(encoded.numpy())
    assert int(decoding.exif_orientation(encoded)) == (orientation if 1 <= orientation <= 8 else 1)
    np.testing.assert_allclose(np.asarray(data.decode_image(encoded), int), expected, atol=5)

    def box(shape):
        with tf.control_dependencies([tf.debugging.assert_equal(shape, expected.shape)]):
            return tf.constant([8, 3, 21, 13])

    part = decoding.decode_and_crop(encoded, box)
    np.testing.assert_allclose(np.asarray(part, int), expected[8:29, 3:16], atol=5)


def test_a_file_with_a_damaged_exif_segment_is_upright():
    exif = Image.Exif()
    exif[0x0112] = 6
    encoded = bytearray(_file("JPEG", (8, 16, 3), exif=exif))
    start = encoded.index(b"Exif") + 6
    for position in range(start, start + 26):
        for value in (0, 255):
            damaged = bytes(encoded[:position]) + bytes([value]) + bytes(encoded[position + 1 :])
            assert data.decode_image(damaged).shape in ((8, 16, 3), (16, 8, 3))
    assert int(decoding.exif_orientation(tf.constant(bytes(encoded[: start + 9])))) == 1  # cut off


@pytest.mark.parametrize("name", [name for name in _FILES if name != "JPEG"])
def test_a_large_image_is_refused_by_its_header(name):
    with pytest.raises(tf.errors.InvalidArgumentError, match="too many pixels"):
        data.decode_image(_FILES[name], max_pixels=34)
    with pytest.raises(tf.errors.InvalidArgumentError, match="too many pixels"):
        data.decode_image(_FILES[name][:60], max_pixels=34)  # the pixels are not needed for that
    assert data.decode_image(_FILES[name], max_pixels=35).shape == (5, 7, 3)


@pytest.mark.parametrize(("max_pixels", "height"), [(64 * 96, 64), (64 * 96 - 1, 32), (32 * 48 - 1, 16), (8 * 12, 8)])
def test_a_large_jpeg_is_decoded_at_a_reduced_scale(max_pixels, height):
    encoded = _file("JPEG", (64, 96, 3))
    assert data.decode_image(encoded, max_pixels=max_pixels).shape == (height, height * 3 // 2, 3)
    with pytest.raises(tf.errors.InvalidArgumentError, match="too many pixels"):
        data.decode_image(encoded, max_pixels=8 * 12 - 1)


def test_a_bmp_file_with_a_palette_is_refused():
    """TensorFlow would return the indices of the colors."""
    content = io.BytesIO()
    Image.new("P", (3, 4)).save(content, "BMP")
    with pytest.raises(tf.errors.InvalidArgumentError, match="palette"):
        data.decode_image(content.getvalue())
    assert not decoding.has_known_format(tf.constant(content.getvalue()))


def test_other_files_are_corrupt():
    content = io.BytesIO()
    Image.new("RGB", (3, 4)).save(content, "TIFF")
    for encoded in (b"", b"x", content.getvalue(), b"\xff\xd8\xff", _FILES["PNG"][:50], b"RIFF1234WEBP"):
        with pytest.raises(tf.errors.InvalidArgumentError):
            data.decode_image(encoded)
