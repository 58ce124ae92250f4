"""`masks:`: images with index PNGs, whose pixels are class indices, as Pascal VOC and annotation programs have them."""

import os
import struct
import zlib

import numpy as np
import tensorflow as tf

from convzoo.data import decoding
from convzoo.data.class_names import read_class_names
from convzoo.data.folder import list_images, name_hash, subfolders
from convzoo.data.source import IGNORED, IndexedSource, on_host
from convzoo.errors import DataError, first_line

_LAYOUT = (
    "masks:/path/images,/path/masks with images NAME.jpg and masks NAME.png, or with folders SPLIT of them, or "
    "masks:/path/images,/path/masks,/path/lists with a list of names in each SPLIT.txt"
)
_NAMES_FILE = "labels.txt"
_MASK = ".png"
_LISTED = 3
# A PNG file begins with a signature of 8 bytes and a chunk of length, name, 13 bytes of content, and checksum.
_BIT_DEPTH, _COLOR_TYPE, _CHECKSUM = 24, 25, 29
_GRAY, _PALETTE = b"\x00", b"\x03"
# A checksum is linear: turning a palette into gray changes it by the same bits in every file.
_CHECKSUM_CHANGE = struct.pack(
    ">I", zlib.crc32(b"IHDR" + bytes(9) + _PALETTE + bytes(3)) ^ zlib.crc32(b"IHDR" + bytes(9) + _GRAY + bytes(3))
)


def open_masks(spec, location, data_dir):
    """Opens `masks:IMAGES,MASKS` or `masks:IMAGES,MASKS,LISTS`.

    A mask is a PNG file with one channel, gray or with a palette, of the size of its image; its values are class
    indices, and 255 is no class. Its name is that of the image with the suffix .png. `labels.txt` in the folder of
    masks has one class name per line, starting with value 0; without it, all masks are read once to find the largest
    value. A mask of another size or with larger values counts as a corrupt image.

    Splits are the folders in IMAGES, which MASKS has too, or the files `SPLIT.txt` in LISTS, which list names without a
    suffix, one per line, as Pascal VOC does. Otherwise there is one split, train. Slices in percent are ranges of a
    hash of the name, as for `folder:`.

    Args:
        spec: The whole source string.
        location: The part after `masks:`.
        data_dir: Unused.

    Returns:
        IndexedSource of label maps. `notes` says which images have no mask; they are left out.

    Raises:
        DataError: A folder does not exist, there are no images with masks, two images have one name, a list names no
            image, labels.txt is invalid, or without it the masks have fewer than two classes.

    Example:
        >>> import os, tempfile
        >>> from convzoo import data
        >>> folder = tempfile.mkdtemp()
        >>> for name, channels in (("images", 3), ("masks", 1)):
        ...     os.makedirs(os.path.join(folder, name))
        ...     png = tf.io.encode_png(tf.ones([8, 8, channels], tf.uint8))
        ...     tf.io.write_file(os.path.join(folder, name, "1.png"), png)
        >>> source = data.open_source(f"masks:{folder}/images,{folder}/masks", label_kind="map")
        >>> source.class_names, next(iter(source.dataset("train")))["label"].shape
        (['0', '1'], TensorShape([8, 8]))
    """
    del data_dir
    folders = location.split(",")
    if len(folders) not in (2, 3):
        raise DataError(f"source {spec!r} needs a folder of images and one of masks; use {_LAYOUT}")
    folders = [os.path.expanduser(folder) for folder in folders]
    for folder in folders:
        if not tf.io.gfile.isdir(folder):
            raise DataError(f"source {spec!r}: folder {folder!r} does not exist; use {_LAYOUT}")
    notes, pairs = [], {}
    if len(folders) == 2 and subfolders(folders[0]) and (stray := list_images(folders[0])):
        notes.append(f"ignored {len(stray)} images outside the folders of the splits in {folders[0]}")
    for split, images, masks, names in _splits(spec, *folders):
        found = {}
        for path in list_images(images):
            name = os.path.splitext(os.path.basename(path))[0]
            if name in found:
                raise DataError(f"source {spec!r}: {found[name]!r} and {path!r} have one name; rename one")
            found[name] = path
        if names is not None and (unknown := [name for name in names if name not in found]):
            raise DataError(
                f"source {spec!r}: {len(unknown)} names in the list {split}.txt have no image in {images!r}, such as "
                f"{', '.join(unknown[:_LISTED])}; correct the list"
            )
        names = [*found] if names is None else names
        existing = set(tf.io.gfile.listdir(masks))
        without = [name for name in names if name + _MASK not in existing]
        if without:
            listed = ", ".join(without[:_LISTED])
            notes.append(f"{split}: left out {len(without)} of {len(names)} images without a mask, such as {listed}")
        names = sorted(set(names) - set(without), key=lambda name: (name_hash(name), name))
        if names:
            pairs[split] = [(name_hash(name), found[name], os.path.join(masks, name + _MASK)) for name in names]
    if not pairs:
        raise DataError(f"source {spec!r} has no images with masks{f' ({notes[0]})' if notes else ''}; use {_LAYOUT}")
    rows = [row for of_split in pairs.values() for row in of_split]
    image_paths, mask_paths = on_host([row[1] for row in rows]), on_host([row[2] for row in rows])
    names_path = os.path.join(folders[1], _NAMES_FILE)
    if tf.io.gfile.exists(names_path):
        class_names = read_class_names(spec, names_path)
    else:
        class_names = [str(number) for number in range(_largest_value(spec, mask_paths) + 1)]
        if len(class_names) < 2:
            raise DataError(
                f"source {spec!r}: all masks have the values 0 and {IGNORED} only, and {IGNORED} is no class; use 1 "
                f"for the second class, or name one class in {names_path!r}"
            )
    if len(class_names) > IGNORED:
        raise DataError(f"source {spec!r} has {len(class_names)} classes; a mask can tell at most {IGNORED} apart")

    def read_row(row):
        image, path = tf.io.read_file(tf.gather(image_paths, row)), tf.gather(mask_paths, row)
        mask = decode_mask(tf.io.read_file(path))
        largest = tf.reduce_max(tf.where(mask == IGNORED, tf.zeros([], tf.uint8), mask))
        size = decoding.image_size(image, rotate=False)
        has_size = tf.reduce_all(size == tf.shape(mask)) | tf.logical_not(decoding.has_known_format(image))
        pixels = tf.reduce_prod(tf.cast(size, tf.int64))
        checks = [
            tf.raw_ops.Assert(
                condition=pixels <= decoding.MAX_PIXELS,  # a larger one would be decoded at a reduced scale
                data=[f"an image with a mask has more than {decoding.MAX_PIXELS} pixels:", pixels],
            ),
            tf.raw_ops.Assert(
                condition=tf.cast(largest, tf.int32) < len(class_names),
                data=[f"the mask has a value above {len(class_names) - 1}, not {IGNORED}:", path, largest],
            ),
            tf.raw_ops.Assert(
                condition=has_size,
                data=["height and width of the image are", size, "but those of its mask", tf.shape(mask)],
            ),
        ]
        with tf.control_dependencies(checks):
            return {"image": tf.identity(image), "label": mask}

    return IndexedSource(
        spec,
        class_names,
        {split: len(of_split) for split, of_split in pairs.items()},
        read_row,
        label_kind="map",
        row_name=[row[1] for row in rows].__getitem__,
        positions={split: np.array([row[0] for row in of_split]) for split, of_split in pairs.items()},
        notes=notes,
    )


def decode_mask(encoded):
    """Decodes an index PNG of one channel, uint8 [height, width]; of one with a palette, the indices.

    Raises:
        tf.errors.InvalidArgumentError: It is no such PNG file, or has too many pixels.

    Example:
        >>> decode_mask(tf.io.encode_png(tf.constant([[[1], [255]]], tf.uint8))).numpy().tolist()
        [[1, 255]]
    """
    head = tf.strings.join([tf.strings.substr(encoded, 0, _CHECKSUM + 4), bytes(_CHECKSUM + 4)])
    color_type = tf.strings.substr(head, _COLOR_TYPE, 1)
    depth = tf.cast(tf.io.decode_raw(tf.strings.substr(head, _BIT_DEPTH, 1), tf.uint8)[0], tf.int32)
    is_index = (color_type == _GRAY) | (color_type == _PALETTE)
    is_mask = (tf.strings.substr(head, 0, 4) == tf.constant(b"\x89PNG")) & is_index & (depth >= 1) & (depth <= 8)
    pixels = tf.reduce_prod(decoding.stored_size(encoded))
    checks = [
        tf.raw_ops.Assert(condition=is_mask, data=["the mask is no PNG file of one channel of at most 8 bits"]),
        tf.raw_ops.Assert(
            condition=pixels <= decoding.MAX_PIXELS,
            data=[f"the mask has more than {decoding.MAX_PIXELS} pixels:", pixels],
        ),
    ]
    # TensorFlow would return the colors of the palette, so the header calls the indices gray.
    checksum = tf.io.decode_raw(tf.strings.substr(head, _CHECKSUM, 4), tf.uint8)
    checksum = tf.bitwise.bitwise_xor(checksum, tf.constant([*_CHECKSUM_CHANGE], tf.uint8))
    bytes_by_value = tf.constant([bytes([value]) for value in range(256)])
    checksum = tf.strings.reduce_join(tf.gather(bytes_by_value, tf.cast(checksum, tf.int32)))
    as_gray = tf.strings.join(
        [
            tf.strings.substr(encoded, 0, _COLOR_TYPE),
            _GRAY,
            tf.strings.substr(head, _COLOR_TYPE + 1, _CHECKSUM - _COLOR_TYPE - 1),
            checksum,
            tf.strings.substr(tf.strings.join([encoded, bytes(_CHECKSUM + 4)]), _CHECKSUM + 4, -1),
        ]
    )
    with tf.control_dependencies(checks):
        content = tf.where(color_type == _PALETTE, as_gray, encoded)
    values = tf.ensure_shape(tf.io.decode_png(content, channels=1), [None, None, 1])[..., 0]
    # TensorFlow spreads values of fewer than 8 bits over 0 to 255.
    return values // tf.gather(tf.constant([1, 255, 85, 1, 17, 1, 1, 1, 1], tf.uint8), tf.clip_by_value(depth, 0, 8))


def _splits(spec, images, masks, lists=None):
    """Yields split, folder of images, folder of masks, and the listed names or None."""
    if lists is not None:
        files = sorted(name for name in tf.io.gfile.listdir(lists) if name.endswith(".txt"))
        if not files:
            raise DataError(f"source {spec!r}: {lists!r} has no lists SPLIT.txt; use {_LAYOUT}")
        for file in files:
            path = os.path.join(lists, file)
            try:
                with tf.io.gfile.GFile(path, "rb") as opened:
                    names = [line.strip() for line in opened.read().decode("utf-8-sig").splitlines()]
            except (OSError, UnicodeDecodeError, tf.errors.OpError) as error:
                raise DataError(
                    f"source {spec!r}: cannot read {path!r} as UTF-8 ({first_line(error)}); write the list again"
                ) from error
            yield file.removesuffix(".txt"), images, masks, [*dict.fromkeys(filter(None, names))]
        return
    splits = subfolders(images)
    if not splits:
        yield "train", images, masks, None
    for split in splits:
        of_split = [os.path.join(folder, split) for folder in (images, masks)]
        if not tf.io.gfile.isdir(of_split[1]):
            raise DataError(f"source {spec!r}: folder {of_split[1]!r} does not exist; {of_split[0]!r} needs it")
        yield split, *of_split, None


def _largest_value(spec, paths):
    """Returns the largest value of all masks, without IGNORED."""

    def largest(path):
        mask = decode_mask(tf.io.read_file(path))
        return tf.reduce_max(tf.where(mask == IGNORED, tf.zeros([], tf.uint8), mask))

    values = tf.data.Dataset.from_tensor_slices(paths).map(largest, num_parallel_calls=tf.data.AUTOTUNE)
    values = list(values.ignore_errors().as_numpy_iterator())
    if not values:
        raise DataError(f"source {spec!r}: no mask can be read; masks are PNG files of one channel with class indices")
    return int(max(values))
