"""Batches for training and for evaluation."""

import functools
import itertools

import tensorflow as tf

from convzoo.data import stages
from convzoo.data.augmentation import Augmentation
from convzoo.data.checks import check_setting
from convzoo.data.corrupt import (
    CorruptImageCounter,
    decoding_error,
    max_corrupt_images,
    replace_corrupt,
    report_corrupt,
)
from convzoo.data.service import parse_addresses, read_from_server, read_from_servers
from convzoo.errors import DataError

_NUM_CHECKED_IMAGES = 8


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
    interpolation="bicubic",
    augmentation=Augmentation(),  # noqa: B008 - frozen
    max_corrupt_fraction=0.001,
    count_corrupt=True,
    service=None,
):
    """Returns an endless stream of augmented batches.

    Each example has a number that counts over epochs and shards. Order and augmentation are functions of the seed and
    this number: neither threads, nor the first example of the stream, nor a data service change them. Only the partner
    in mixup and CutMix depends on the batch: it is half a batch away. Batches continue across the ends of epochs, so
    every epoch has each example once. The next readable image replaces one that cannot be decoded.

    Args:
        source: Source.
        split: str, such as `train[:90%]`.
        image_size: (height, width) in pixels.
        mean, std: Three numbers on 0..255; images become (pixel - mean) / std.
        batch_size: Images per batch of this shard.
        seed: int.
        first_example: Number of the first example; to resume, the number that all shards together have read.
        shard: (index, count): the stream keeps every count-th image from the index-th on.
        shuffle_buffer: Number of examples in the shuffle buffer of a source of TFRecords. Other sources shuffle the
            whole split.
        interpolation: "bicubic" or "bilinear".
        augmentation: Augmentation.
        max_corrupt_fraction: Maximum fraction of corrupt images per epoch. With more, iteration fails with an error
            that `reraise_data_errors` turns into a DataError.
        count_corrupt: Whether corrupt images are logged and counted. Must be False if the pipeline runs on another
            machine than the program.
        service: "HOST:PORT,HOST:PORT,...", data servers (scripts/data_service.sh) that decode and augment; or None.

    Returns:
        tf.data.Dataset of {"image": float32 [batch_size, height, width, 3], "label": int32 [batch_size]}. With mixup or
        CutMix the label is float32 [batch_size, num_classes], whose rows sum to 1. A label map is int32 [batch_size,
        height, width]. Boxes are a dict of "boxes" float32 [batch_size, source.max_boxes, 4] (top, left, bottom, right,
        in units of the image's height and width), "classes" int32 [batch_size, source.max_boxes] and "count" int32
        [batch_size], the number of boxes; the rest is padding.

    Raises:
        DataError: The split or a setting is invalid.

    Example:
        >>> from convzoo import data
        >>> source = data.open_source("fake:classes=3,size=32,examples=16")
        >>> settings = {"image_size": (24, 24), "mean": (127.5,) * 3, "std": (127.5,) * 3}
        >>> batch = next(iter(data.train_dataset(source, "train", batch_size=4, seed=0, **settings)))
        >>> batch["image"].shape, batch["label"].dtype
        (TensorShape([4, 24, 24, 3]), tf.int32)
    """
    _check(image_size, mean, std, batch_size, shard, interpolation, max_corrupt_fraction)
    check_setting("seed", seed, integer=True)
    check_setting("first_example", first_example, integer=True, low=0)
    check_setting("shuffle_buffer", shuffle_buffer, integer=True, low=1)
    augmentation.check(source.label_kind)
    repeats, servers = augmentation.repeated_augmentation, parse_addresses(service)
    _check_divisible(batch_size, first_example, augmentation, max(len(servers), 1))
    normalization = {"mean": mean, "std": std}
    order = {"seed": seed, "shuffle_buffer": shuffle_buffer}
    first_image = first_example // repeats

    # Each data server makes the batches of one part of this shard; without servers there is one part.
    parts = _split_shard(shard, max(len(servers), 1), first_image)

    def part_batches(part):
        dataset = source.shuffled(split, first_example=first_image, shard=part, **order)
        may_be_corrupt = _is_encoded(dataset.element_spec[1])
        dataset = stages.repeat(dataset, repeats)
        dataset = stages.augment(
            dataset,
            augmentation,
            seed=seed,
            image_size=image_size,
            interpolation=interpolation,
            max_boxes=source.max_boxes,
            **normalization,
        )
        if may_be_corrupt:
            numbers = {"first": _first_in_shard(part, first_image), "step": part[1], "repeats": repeats}
            dataset = replace_corrupt(dataset, batch_size // len(parts), **numbers)
        else:
            dataset = stages.batch(dataset, batch_size // len(parts))
        return stages.keep_order(dataset)

    batches = [part_batches(part) for part in parts]
    dataset = read_from_servers(servers, batches, repeats) if servers else batches[0]
    counter = _counter(
        source,
        split,
        shard[1],
        max_corrupt_fraction,
        describe=functools.partial(source.describe_example, split, **order),
        read=functools.partial(source.read_example, split, **order),
    )
    dataset = report_corrupt(dataset, counter if count_corrupt else None)
    dataset = stages.mix(dataset, augmentation, num_classes=source.num_classes, **normalization)
    dataset = stages.normalize(dataset, **normalization)
    return dataset.prefetch(tf.data.AUTOTUNE)


def eval_dataset(
    source,
    split,
    *,
    image_size,
    mean,
    std,
    batch_size,
    shard=(0, 1),
    crop_fraction=0.875,
    interpolation="bicubic",
    max_corrupt_fraction=0.001,
    count_corrupt=True,
    label_size=None,
    keep_scale=False,
):
    """Returns every example once, in a fixed order, in batches of one size.

    Args:
        source, split, image_size, mean, std, batch_size, interpolation, max_corrupt_fraction, count_corrupt: As for
            `train_dataset`.
        shard: (index, count): every count-th example from the index-th on. All shards have the same number of batches,
            so that replicas can step together.
        crop_fraction: Side of the central square crop over the shorter side, in (0, 1]. Must be None with label
            maps and boxes, whose images are not cropped.
        label_size: (height, width) that no image exceeds. Label maps then keep the size of their images. None: they are
            resized with the images.
        keep_scale: Whether images with label maps are not resized. They must not exceed `image_size`; gray pixels
            without a class fill it up.

    Returns:
        tf.data.Dataset of {"image": float32 [batch_size, height, width, 3], "label": ..., "mask": float32
        [batch_size]}. The mask is 0 for images that replace corrupt ones and for the zeros that fill the last batches,
        else 1. Labels are those of `train_dataset`. Boxes of crowds follow those of the objects, and the dict also has
        their number "num_crowds" int32 [batch_size], "areas" float32 [batch_size, source.max_boxes] of the objects in
        pixels, and "size" int32 [batch_size, 2], height and width of the image before resizing. With `label_size`
        the label is a dict of "map" int32 [batch_size, *label_size], filled up with IGNORED, and "size" as for boxes.

    Raises:
        DataError: The split or a setting is invalid.

    Example:
        >>> from convzoo import data
        >>> source = data.open_source("fake:classes=3,size=32,examples=5")
        >>> settings = {"image_size": (24, 24), "mean": (127.5,) * 3, "std": (127.5,) * 3}
        >>> for batch in data.eval_dataset(source, "test", batch_size=4, **settings):
        ...     print(batch["label"].numpy(), batch["mask"].numpy())
        [0 1 2 0] [1. 1. 1. 1.]
        [1 0 0 0] [1. 0. 0. 0.]
    """
    _check(image_size, mean, std, batch_size, shard, interpolation, max_corrupt_fraction)
    if source.label_kind in ("class", "number"):
        check_setting("crop_fraction", crop_fraction, above=0, high=1)
    elif crop_fraction is not None:
        raise DataError(f"crop_fraction={crop_fraction!r} would drop labeled parts of {source.spec!r}; use None")
    index, count = shard
    size = source.num_examples(split)
    num_batches = num_eval_batches(source, split, batch_size, count)
    end = index + (num_batches * batch_size + 1) * count  # one more than needed, to follow a corrupt last image

    dataset = source.ordered(split, shard)
    may_be_corrupt = _is_encoded(dataset.element_spec)
    dataset = tf.data.Dataset.zip((tf.data.Dataset.range(index, size, count), dataset))
    dataset = stages.preprocess(
        dataset,
        image_size=image_size,
        mean=mean,
        std=std,
        crop_fraction=crop_fraction,
        interpolation=interpolation,
        max_boxes=source.max_boxes,
        label_size=label_size,
        keep_scale=keep_scale,
    )
    first_padding = index + len(range(index, size, count)) * count
    dataset = stages.pad(dataset, tf.data.Dataset.range(first_padding, end, count))
    if may_be_corrupt:
        dataset = replace_corrupt(dataset, batch_size, first=index, step=count)
    else:
        dataset = stages.batch(dataset, batch_size)
    dataset = stages.keep_order(dataset.take(num_batches))
    dataset = stages.mask_corrupt(dataset)
    counter = _counter(
        source,
        split,
        count,
        max_corrupt_fraction,
        describe=functools.partial(source.describe_ordered_example, split),
        read=functools.partial(source.read_ordered_example, split),
    )
    dataset = report_corrupt(dataset, counter if count_corrupt else None)
    if keep_scale or label_size is not None:
        dataset = stages.check_size(dataset, image_size if keep_scale else label_size)
    return dataset.prefetch(tf.data.AUTOTUNE)


def num_eval_batches(source, split, batch_size, num_shards=1):
    """Returns the number of batches of `eval_dataset` in each shard, an int of at least 1.

    Args:
        source: Source.
        split: str.
        batch_size: Batch size of one shard.
        num_shards: int.

    Raises:
        DataError: The split or a number is invalid.

    Example:
        >>> from convzoo import data
        >>> data.num_eval_batches(data.open_source("fake:examples=100"), "test", batch_size=32)
        4
    """
    check_setting("batch_size", batch_size, integer=True, low=1)
    check_setting("num_shards", num_shards, integer=True, low=1)
    longest_shard = -(-source.num_examples(split) // num_shards)
    return -(-longest_shard // batch_size)


def check_images(source, split, service=None):
    """Checks that images of a split can be decoded here and by each data server; without any, training would hang.

    Args:
        source: Source.
        split: str.
        service: As for `train_dataset`.

    Raises:
        DataError: None of eight images, spread over the split, can be decoded.

    Example:
        >>> from convzoo import data
        >>> data.check_images(data.open_source("fake:examples=8"), "train")
    """
    if not _is_encoded(source.ordered(split, (0, 1)).element_spec):
        return
    size = source.num_examples(split)
    positions = sorted({size * i // _NUM_CHECKED_IMAGES for i in range(_NUM_CHECKED_IMAGES)})
    for address in (None, *parse_addresses(service)):
        examples = (source.read_ordered_example(split, position) for position in positions)
        if address:
            examples = (read_from_server(address, example) for example in examples)
        errors = list(itertools.takewhile(lambda error: error is not None, map(decoding_error, examples)))
        if len(errors) == len(positions):
            where = f"data server {address}" if address else "this machine"
            raise DataError(
                f"{where} can read none of {len(positions)} sampled images of {split} of {source.spec}, such as "
                f"{source.describe_ordered_example(split, 0)} ({errors[0]}); check the files"
            )


def _is_encoded(example_spec):
    """True if an example's image is an encoded string, which may be corrupt."""
    return example_spec["image"].dtype == tf.string


def _split_shard(shard, num_parts, first):
    """Splits a shard (index, count) into num_parts shards, ordered by their first image from number `first` on."""
    index, count = shard
    parts = [(index + k * count, count * num_parts) for k in range(num_parts)]
    return sorted(parts, key=lambda part: _first_in_shard(part, first))


def _first_in_shard(shard, first):
    """Returns the smallest number of a shard (index, count) that is at least `first`."""
    index, count = shard
    return first + (index - first) % count


def _counter(source, split, num_shards, max_corrupt_fraction, *, describe, read):
    size = source.num_examples(split)
    return CorruptImageCounter(
        f"{split} of {source.spec}",
        describe=describe,
        read=read,
        epoch_size=size,
        max_per_epoch=max_corrupt_images(max_corrupt_fraction, size, num_shards),
    )


def _check(image_size, mean, std, batch_size, shard, interpolation, max_corrupt_fraction):
    """Raises DataError for invalid settings that training and evaluation share."""
    check_setting("image_size", image_size, length=2, integer=True, low=1)
    check_setting("mean", mean, length=3)
    check_setting("std", std, length=3, above=0)
    check_setting("batch_size", batch_size, integer=True, low=1)
    check_setting("shard", shard, length=2, integer=True, low=0)
    if shard[0] >= shard[1]:
        raise DataError(f"shard={shard!r} is not (index, count) with index below count")
    if interpolation not in ("bicubic", "bilinear"):
        raise DataError(f"interpolation={interpolation!r} is unknown; use bicubic or bilinear")
    check_setting("max_corrupt_fraction", max_corrupt_fraction, low=0, high=1)


def _check_divisible(batch_size, first_example, augmentation, num_servers):
    """Raises DataError if a shard's batch cannot be divided among servers and repeats, or has no partners to mix."""
    repeats = augmentation.repeated_augmentation
    if first_example % repeats:
        raise DataError(f"first_example={first_example} is not divisible by repeated_augmentation={repeats}")
    if batch_size % (num_servers * repeats):
        raise DataError(
            f"batch_size={batch_size} per shard is not divisible by repeated_augmentation={repeats} times "
            f"{num_servers} data servers; use a multiple of {num_servers * repeats}"
        )
    if augmentation.mixes and batch_size < 2 * repeats:
        raise DataError(
            f"batch_size={batch_size} per shard has no two different images to mix; use at least {2 * repeats}, or set "
            "mixup and cutmix to None"
        )
