"""Batches for training and for evaluation."""

import numbers

import tensorflow as tf

from convzoo.data.errors import DataError
from convzoo.data.transforms import (
    decode_image,
    eval_transform,
    resize_map,
    train_transform,
    train_transform_with_map,
)


def train_dataset(
    source,
    split,
    *,
    image_size,
    mean,
    std,
    batch_size,
    seed,
    first_example=0,
    shard=(0, 1),
    shuffle_buffer=16_384,
    crop_area=(0.08, 1.0),
    crop_aspect=(3 / 4, 4 / 3),
    flip=True,
    interpolation="bicubic",
    deterministic=True,
):
    """An endless stream of augmented batches.

    Every example has a number that counts through epochs and shards. Order and augmentation are functions of the seed
    and that number alone: neither threads nor where the stream began change them. Batches run on over the ends of
    epochs, so that every epoch has each example once.

    Args:
        source: Source.
        split: str, such as `train[:90%]`.
        image_size: (height, width) in pixels.
        mean, std: three numbers on the scale 0..255; the result is (pixel - mean) / std.
        batch_size: int, of this shard.
        seed: int.
        first_example: int, the number to begin at; to resume, the examples that all shards together have read.
        shard: (index, count): every count-th example of the one order, from the index-th on.
        shuffle_buffer: int, among how many examples a `tfds:` source shuffles; others shuffle the whole split.
        crop_area: (lowest, highest) part of the area of the Inception crop, or None: only resize.
        crop_aspect: (lowest, highest) width / height of the crop.
        flip: bool, mirror half of the pictures left to right.
        interpolation: "bicubic" or "bilinear".
        deterministic: bool; False lets examples overtake each other, which is faster and gives up the order.

    Returns:
        tf.data.Dataset of {"image": float32 [batch_size, height, width, 3], "label": int32 [batch_size]}; the label of
        a source with maps is int32 [batch_size, height, width], cut and mirrored with the picture.

    Raises:
        DataError: the split or a setting cannot work.
    """
    _check(image_size, mean, std, batch_size, shard, interpolation)
    _check_whole("seed", seed, None)
    _check_whole("first_example", first_example, 0)
    _check_whole("shuffle_buffer", shuffle_buffer, 1)
    if crop_area is not None:
        _check_range("crop_area", crop_area, 1.0)
        _check_range("crop_aspect", crop_aspect, None)

    arguments = {
        "image_size": image_size,
        "mean": mean,
        "std": std,
        "crop_area": crop_area,
        "crop_aspect": crop_aspect,
        "flip": flip,
        "interpolation": interpolation,
    }

    def prepare(number, example):
        image, label, chance = example["image"], example["label"], tf.stack([tf.constant(seed, tf.int64), number])
        if source.has_maps:
            image, label = train_transform_with_map(image, label, chance, **arguments)
        else:
            image, label = train_transform(image, chance, **arguments), tf.cast(label, tf.int32)
        return {"image": _with_size(image, image_size), "label": _with_label_size(label, source, image_size)}

    stream = source.shuffled(split, seed=seed, first_example=first_example, shard=shard, shuffle_buffer=shuffle_buffer)
    batches = stream.map(prepare, num_parallel_calls=tf.data.AUTOTUNE).batch(batch_size, drop_remainder=True)
    options = tf.data.Options()
    options.deterministic = deterministic
    return batches.with_options(options).prefetch(tf.data.AUTOTUNE)


def eval_dataset(
    source, split, *, image_size, mean, std, batch_size, shard=(0, 1), crop_fraction=0.875, interpolation="bicubic"
):
    """Every example once, in a fixed order, in batches of one size.

    Args:
        source, split, image_size, mean, std, batch_size, interpolation: as for `train_dataset`.
        shard: (index, count): every count-th example from the index-th on. All shards give the same number of batches,
            so that replicas that must step together can.
        crop_fraction: float in (0, 1], the side of the central square over the shorter side; None, and only that, for a
            source with maps, whose pictures are taken whole.

    Returns:
        tf.data.Dataset of {"image": float32 [batch_size, height, width, 3], "label": int32 [batch_size] or, of a source
        with maps, [batch_size, height, width], "mask": float32 [batch_size]}. The end is filled up with zeros whose
        mask is 0; examples have mask 1.

    Raises:
        DataError: the split or a setting cannot work.
    """
    _check(image_size, mean, std, batch_size, shard, interpolation)
    if source.has_maps and crop_fraction is not None:
        raise DataError(
            f"crop_fraction {crop_fraction!r} is not for {source.spec!r}, whose pixels all count; give None"
        )
    if not source.has_maps and not (isinstance(crop_fraction, numbers.Real) and 0 < crop_fraction <= 1):
        raise DataError(f"crop_fraction {crop_fraction!r} is not a number above 0 and up to 1; give for example 0.875")
    index, count = shard

    def prepare(example):
        image, label = example["image"], example["label"]
        image = eval_transform(
            decode_image(image) if image.dtype == tf.string else image,
            image_size=image_size,
            mean=mean,
            std=std,
            crop_fraction=crop_fraction,
            interpolation=interpolation,
        )
        label = resize_map(label, image_size) if source.has_maps else tf.cast(label, tf.int32)
        return {
            "image": _with_size(image, image_size),
            "label": _with_label_size(label, source, image_size),
            "mask": tf.constant(1.0),
        }

    examples = source.ordered(split, shard).map(prepare, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    here = len(range(index, source.num_examples(split), count))
    missing = num_eval_batches(source, split, batch_size, count) * batch_size - here
    label = tf.zeros(image_size if source.has_maps else [], tf.int32)
    filling = {"image": tf.zeros([*image_size, 3]), "label": label, "mask": tf.constant(0.0)}
    examples = examples.concatenate(tf.data.Dataset.from_tensors(filling).repeat(missing))
    return examples.batch(batch_size, drop_remainder=True).prefetch(tf.data.AUTOTUNE)


def num_eval_batches(source, split, batch_size, num_shards=1):
    """How many batches `eval_dataset` gives in each shard.

    Args:
        source: Source.
        split: str.
        batch_size: int, of one shard.
        num_shards: int.

    Returns:
        int, at least 1.

    Raises:
        DataError: the split cannot be read, or a number is below 1.
    """
    _check_whole("batch_size", batch_size, 1)
    _check_whole("num_shards", num_shards, 1)
    longest_shard = -(-source.num_examples(split) // num_shards)
    return -(-longest_shard // batch_size)


def _with_size(image, image_size):
    """State the static shape that unknown picture sizes have hidden: TPUs compile for one shape."""
    return tf.ensure_shape(image, [*image_size, 3])


def _with_label_size(label, source, image_size):
    return tf.ensure_shape(label, image_size) if source.has_maps else label


def _check(image_size, mean, std, batch_size, shard, interpolation):
    """Raise DataError for settings that both kinds of batches share and that cannot work."""
    if not isinstance(image_size, tuple | list) or len(image_size) != 2:
        raise DataError(f"image_size {image_size!r} is not (height, width); give for example (224, 224)")
    for side in image_size:
        _check_whole("image_size", side, 1)
    for name, values in (("mean", mean), ("std", std)):
        if len(values) != 3:
            raise DataError(f"{name} {values!r} has {len(values)} numbers; give three, one per colour, on 0..255")
    if min(std) <= 0:
        raise DataError(f"std {std!r} has a number that is not above 0; pictures are divided by it")
    _check_whole("batch_size", batch_size, 1)
    index, count = shard
    _check_whole("shard count", count, 1)
    _check_whole("shard index", index, 0)
    if index >= count:
        raise DataError(f"shard index {index} is not below the count {count}; number shards from 0")
    if interpolation not in ("bicubic", "bilinear"):
        raise DataError(f"interpolation {interpolation!r} is unknown; choose bicubic or bilinear")


def _check_whole(name, value, lowest):
    """Raise DataError unless value is a whole number of at least lowest (None: any)."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise DataError(f"{name} {value!r} is not a whole number; give one")
    if lowest is not None and value < lowest:
        raise DataError(f"{name} {value} is below {lowest}; give {lowest} or more")


def _check_range(name, values, highest):
    """Raise DataError unless values are (low, high) with 0 < low <= high <= highest (None: no limit)."""
    low, high = values if len(values) == 2 else (0, 0)
    if not 0 < low <= high or (highest is not None and high > highest):
        limit = "" if highest is None else f" <= {highest:g}"
        raise DataError(f"{name} {tuple(values)!r} is not (low, high) with 0 < low <= high{limit}; correct it")
