"""Batches for training and for evaluation."""

import numbers

import numpy as np
import tensorflow as tf

from convzoo.data import mixing
from convzoo.data.augmentation import Augmentation
from convzoo.data.broken import NONE, BrokenPictures, decoding_error, most_broken, skip_broken
from convzoo.data.errors import DataError
from convzoo.data.service import addresses, through_server, through_servers
from convzoo.data.transforms import (
    decode_image,
    eval_transform,
    normalise,
    resize_map,
    train_transform,
    train_transform_with_map,
)

_LOOKED_AT = 8  # pictures, before a training


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
    augmentation=Augmentation(),  # noqa: B008 - it cannot be changed
    max_broken=0.001,
    counts_broken=True,
    service=None,
):
    """An endless stream of augmented batches.

    Every example has a number that counts through epochs and shards. Order and augmentation are functions of the seed
    and that number alone: neither threads nor where the stream began nor a service change them. Batches run on over the
    ends of epochs, so that every epoch has each example once. Only the partner that a picture is mixed with depends on
    the batch: it is the one half a batch behind.

    The place of a picture that cannot be decoded is taken by the next whole one, and it is named in the log.

    Args:
        source: Source.
        split: str, such as `train[:90%]`.
        image_size: (height, width) in pixels.
        mean, std: three numbers on the scale 0..255; the result is (pixel - mean) / std.
        batch_size: int, of this shard.
        seed: int.
        first_example: int, the number to begin at; to resume, the examples that all shards together have read.
        shard: (index, count): every count-th picture of the one order, from the index-th on.
        shuffle_buffer: int, among how many examples a source of records shuffles; others shuffle the whole split.
        interpolation: "bicubic" or "bilinear".
        augmentation: Augmentation.
        max_broken: float, the share of an epoch's pictures that may be broken; of more, the stream ends with what
            `input_errors` makes a DataError of.
        counts_broken: bool, whether broken pictures are counted and named; not to be had where the pipeline runs on
            another machine than the program.
        service: str "HOST:PORT,HOST:PORT,...", data servers (scripts/data_service.sh) that make the pictures; or None.

    Returns:
        tf.data.Dataset of {"image": float32 [batch_size, height, width, 3], "label": int32 [batch_size]}. With mixup or
        CutMix the label is float32 [batch_size, classes], whose rows sum to 1; of a source with maps int32 [batch_size,
        height, width], cut and mirrored with the picture.

    Raises:
        DataError: the split or a setting cannot work.
    """
    _check(image_size, mean, std, batch_size, shard, interpolation, max_broken)
    _check_whole("seed", seed, None)
    _check_whole("first_example", first_example, 0)
    _check_whole("shuffle_buffer", shuffle_buffer, 1)
    augmentation.check(source.has_maps)
    repeats = augmentation.repeats
    if batch_size % repeats or first_example % repeats:
        raise DataError(
            f"batch_size {batch_size} of a shard, from example {first_example} on, does not divide by repeats "
            f"{repeats}; change one of them"
        )
    if augmentation.mixes and batch_size < 2 * repeats:
        raise DataError(
            f"batch_size {batch_size} of a shard leaves a picture no other to be mixed with; give each device "
            f"{2 * repeats} or more, or leave mixup and cutmix out"
        )
    servers = addresses(service)
    parts = max(len(servers), 1)
    if batch_size % (parts * repeats):
        raise DataError(
            f"batch_size {batch_size} of a shard does not divide by {parts} data servers times repeats {repeats}; "
            "change one of them"
        )
    size, arguments = source.num_examples(split), {"image_size": image_size, "interpolation": interpolation}

    def prepare(number, example):
        image, label, chance = example["image"], example["label"], tf.stack([tf.constant(seed, tf.int64), number])
        if source.has_maps:
            image, label = train_transform_with_map(image, label, chance, augmentation=augmentation, **arguments)
        else:
            label = tf.cast(label, tf.int32)
            image = train_transform(image, chance, augmentation=augmentation, **arguments)
        found = {"image": _with_size(image, image_size), "label": _with_label_size(label, source, image_size)}
        if augmentation.mixes:
            # The negative sisters of the seeds that pictures are augmented with.
            found["draw"] = mixing.draw(-1 - chance, image_size, augmentation.mixup, augmentation.cutmix)
        elif image.dtype == tf.float32:
            found["image"] = normalised(found["image"])
        return found

    def part(k):
        """The pictures index + k * count, index + (k + parts) * count, ..., prepared."""
        index, count = shard[0] + k * shard[1], shard[1] * parts
        first = first_example // repeats
        first_here = first + (index - first) % count
        stream = source.shuffled(
            split, seed=seed, first_example=first, shard=(index, count), shuffle_buffer=shuffle_buffer
        )
        may_break = stream.element_spec[1]["image"].dtype == tf.string
        if repeats > 1:

            def repeated(number, example):
                again = tf.data.Dataset.range(repeats)
                return again.map(lambda time: (number * repeats + time, example))

            stream = stream.flat_map(repeated)
        if not may_break:
            prepared = stream.map(prepare, num_parallel_calls=tf.data.AUTOTUNE)
            return _in_order(prepared.batch(batch_size // parts, drop_remainder=True))

        def place(number):
            return (number // repeats - first_here) // count * repeats + number % repeats

        def number_of(place):
            return (first_here + place // repeats * count) * repeats + place % repeats

        prepared = stream.map(
            lambda number, example: (place(number), prepare(number, example)), num_parallel_calls=tf.data.AUTOTUNE
        )

        def with_broken(places, told, found):
            return {**found, "broken": tf.where(told == places, NONE, number_of(places) // repeats)}

        batches = skip_broken(prepared, batch_size // parts).rebatch(batch_size // parts, drop_remainder=True)
        return _by_place(_in_order(batches), with_broken)

    def normalised(image):
        return normalise(image, mean, std)

    def finished(batch):
        batch = dict(batch)
        if augmentation.mixes:
            image, label, draw = batch["image"], batch["label"], batch.pop("draw")
            batch["image"], batch["label"] = mixing.mix(
                image, label, draw, source.num_classes, augmentation.cutmix > 0, normalised
            )
        else:
            batch["image"] = normalised(batch["image"])
        return batch

    # The part that has the first picture comes first.
    ahead = (first_example // repeats - shard[0] + shard[1] - 1) // shard[1] % parts
    batches = through_servers(servers, lambda k: part((ahead + k) % parts), repeats) if servers else part(0)
    if "broken" in batches.element_spec:
        if counts_broken:
            order = {"seed": seed, "shuffle_buffer": shuffle_buffer}
            counted = BrokenPictures(
                f"{split} of {source.spec}",
                lambda number: source.where(split, number, **order),
                lambda number: source.example(split, number, **order),
                size,
                most_broken(max_broken, size, shard[1]),
            ).counted
        else:
            counted = _uncounted
        batches = batches.map(counted)
    if batches.element_spec["image"].dtype == tf.uint8:
        batches = batches.map(finished, num_parallel_calls=tf.data.AUTOTUNE)
    return batches.prefetch(tf.data.AUTOTUNE)


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
    max_broken=0.001,
    counts_broken=True,
):
    """Every example once, in a fixed order, in batches of one size.

    Args:
        source, split, image_size, mean, std, batch_size, interpolation, max_broken, counts_broken: as for
            `train_dataset`.
        shard: (index, count): every count-th example from the index-th on. All shards give the same number of batches,
            so that replicas that must step together can.
        crop_fraction: float in (0, 1], the side of the central square over the shorter side; None, and only that, for a
            source with maps, whose pictures are taken whole.

    Returns:
        tf.data.Dataset of {"image": float32 [batch_size, height, width, 3], "label": int32 [batch_size] or, of a source
        with maps, [batch_size, height, width], "mask": float32 [batch_size]}. The mask is 1 for examples and 0 for what
        stands in for broken ones and for the zeros that fill up the end.

    Raises:
        DataError: the split or a setting cannot work.
    """
    _check(image_size, mean, std, batch_size, shard, interpolation, max_broken)
    if source.has_maps and crop_fraction is not None:
        raise DataError(
            f"crop_fraction {crop_fraction!r} is not for {source.spec!r}, whose pixels all count; give None"
        )
    if not source.has_maps and not (isinstance(crop_fraction, numbers.Real) and 0 < crop_fraction <= 1):
        raise DataError(f"crop_fraction {crop_fraction!r} is not a number above 0 and up to 1; give for example 0.875")
    index, count = shard
    size = source.num_examples(split)
    here = len(range(index, size, count))

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
        return {"image": _with_size(image, image_size), "label": _with_label_size(label, source, image_size)}

    examples = source.ordered(split, shard)
    may_break = examples.element_spec["image"].dtype == tf.string
    prepared = examples.enumerate().map(
        lambda place, example: (place, prepare(example)), num_parallel_calls=tf.data.AUTOTUNE
    )
    pieces = skip_broken(prepared, batch_size) if may_break else prepared.batch(batch_size)
    label = tf.zeros([1, *image_size] if source.has_maps else [1], tf.int32)
    filling = (NONE[np.newaxis], {"image": tf.zeros([1, *image_size, 3]), "label": label})
    number = num_eval_batches(source, split, batch_size, count)
    # As many as may be missing: what is broken at the end of the data has no successor to stand in for it.
    filled = pieces.concatenate(tf.data.Dataset.from_tensors(filling).repeat(number * batch_size))
    batches = _in_order(filled.rebatch(batch_size, drop_remainder=True).take(number))

    def with_mask(places, told, found):
        is_own = told == places
        broken = tf.where(is_own | (places >= here), NONE, index + places * count)
        return {**found, "mask": tf.cast(is_own, tf.float32), "broken": broken}

    batches = _by_place(batches, with_mask)
    if may_break and counts_broken:
        broken = BrokenPictures(
            f"{split} of {source.spec}",
            lambda position: source.where_ordered(split, position),
            lambda position: source.example_ordered(split, position),
            size,
            most_broken(max_broken, size, count),
        )
        batches = batches.map(broken.counted)
    else:
        batches = batches.map(_uncounted)
    return batches.prefetch(tf.data.AUTOTUNE)


def check_pictures(source, split, service=None):
    """Raise DataError if no picture of a split can be decoded, here or by a server: training would wait for ever.

    Few are looked at, far from each other, and the first that can be decoded is enough.

    Args:
        source: Source.
        split: str.
        service: str as for `train_dataset`, or None.
    """
    size = source.num_examples(split)
    if source.example_ordered(split, 0).element_spec["image"].dtype != tf.string:
        return
    positions = sorted({size * part // _LOOKED_AT for part in range(_LOOKED_AT)})
    for address in (None, *addresses(service)):
        errors = []
        for position in positions:
            example = source.example_ordered(split, position)
            errors.append(decoding_error(through_server(address, example) if address else example))
            if errors[-1] is None:
                break
        else:
            where, by = source.where_ordered(split, 0), f" by data server {address}" if address else ""
            raise DataError(
                f"none of {len(positions)} pictures of {split} of {source.spec} that were tried can be read{by}, the "
                f"first of them {where} ({errors[0]}); mend that"
            )


def _in_order(batches):
    """The same batches in the order of their examples, whatever the threads do."""
    options = tf.data.Options()
    options.deterministic = True
    return batches.with_options(options)


def _by_place(batches, join):
    """join(places int64 [batch], told, elements) of each batch of (told, elements); places count from the first on."""

    def joined(number, batch):
        told, elements = batch
        size = tf.shape(told, tf.int64)[0]
        return join(number * size + tf.range(size), told, elements)

    return batches.enumerate().map(joined)


def _uncounted(batch):
    return {name: value for name, value in batch.items() if name != "broken"}


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


def _check(image_size, mean, std, batch_size, shard, interpolation, max_broken):
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
    if not isinstance(max_broken, numbers.Real) or not 0 <= max_broken <= 1:
        raise DataError(f"max_broken {max_broken!r} is not a share between 0 and 1; give for example 0.001")


def _check_whole(name, value, lowest):
    """Raise DataError unless value is a whole number of at least lowest (None: any)."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise DataError(f"{name} {value!r} is not a whole number; give one")
    if lowest is not None and value < lowest:
        raise DataError(f"{name} {value} is below {lowest}; give {lowest} or more")
