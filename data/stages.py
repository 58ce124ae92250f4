"""The stages of the input pipelines: functions from one tf.data.Dataset to another.

`train_dataset` and `eval_dataset` (pipeline.py) chain them. Up to batching, an element is (number, example): the
number, int64 [], identifies the example over epochs and shards. The stages up to batching may run in a data server, so
they hold no Python state.
"""

import tensorflow as tf

from convzoo.data import decoding, labels, mixing, transforms
from convzoo.data.corrupt import NOT_CORRUPT
from convzoo.data.source import IGNORED


def repeat(dataset, repeats):
    """Repeats each image for repeated augmentation.

    Args:
        dataset: tf.data.Dataset of (number, example).
        repeats: int.

    Returns:
        tf.data.Dataset of (number * repeats + i, example) for i in 0..repeats - 1.
    """
    if repeats == 1:
        return dataset

    def copies(number, example):
        return tf.data.Dataset.range(repeats).map(lambda i: (number * repeats + i, example))

    return dataset.flat_map(copies)


def augment(dataset, augmentation, *, seed, image_size, interpolation, mean, std, max_boxes=None):
    """Decodes and augments each image, as a function of the seed and the example's number.

    Args:
        dataset: tf.data.Dataset of (number, example): "image" uint8 [h, w, channels] or encoded string [], and "label",
            see `Source`.
        augmentation: Augmentation.
        seed: int.
        image_size: (height, width) of the result.
        interpolation: "bicubic" or "bilinear".
        mean, std: Three numbers on 0..255.
        max_boxes: Number of slots for boxes; None without boxes.

    Returns:
        tf.data.Dataset of (number, dict): "image" [height, width, 3], normalized float32, or uint8 on 0..255 if
        augmentation.works_on_bytes; "label", see `labels.to_static_shape`; with mixup or CutMix "mix" float32 [6].
    """

    def augment_one(number, example):
        image_seed = tf.stack([tf.constant(seed, tf.int64), number])
        image, label = transforms.train_transform(
            example["image"],
            labels.without_crowds(example["label"]),
            image_seed,
            image_size=image_size,
            interpolation=interpolation,
            augmentation=augmentation,
        )
        if labels.kind_of(label) == "boxes":
            label = {name: label[name] for name in ("boxes", "classes", "is_crowd")}
        element = _element(image, label, image_size, max_boxes)
        if labels.kind_of(label) == "boxes":
            del element["label"]["num_crowds"]
        if augmentation.mixes:
            # The negated seed is independent of the one above.
            element["mix"] = mixing.sample(-1 - image_seed, image_size, augmentation.mixup, augmentation.cutmix)
        elif image.dtype == tf.float32:
            # Here and not in `normalize`, because the image is still in the processor's cache.
            element["image"] = transforms.normalize(element["image"], mean, std)
        return number, element

    return dataset.map(augment_one, num_parallel_calls=tf.data.AUTOTUNE)


def preprocess(dataset, *, image_size, max_boxes=None, label_size=None, keep_scale=False, **settings):
    """Decodes, crops, resizes and normalizes each image for evaluation.

    Args:
        dataset: tf.data.Dataset of (number, example), as for `augment`.
        image_size, **settings: Arguments of `eval_transform`.
        max_boxes: Number of slots for boxes; None without boxes.
        label_size, keep_scale: See `pipeline.eval_dataset`.

    Returns:
        tf.data.Dataset of (number, dict): "image" float32 [height, width, 3], "label", see `labels.to_static_shape`,
        "mask" float32 [], which is 1. Boxes have "areas" in any case, and "size" int32 [2], height and width of the
        image before resizing.
    """

    def preprocess_one(number, example):
        image, label = example["image"], example["label"]
        kind = labels.kind_of(label)
        if kind == "boxes":
            size = decoding.image_size(image, rotate=False) if image.dtype == tf.string else tf.shape(image)[:2]
            if "areas" not in label:
                sides = (label["boxes"][:, 2:] - label["boxes"][:, :2]) * tf.cast(size, tf.float32)
                label = {**label, "areas": tf.reduce_prod(sides, -1)}
        image = decoding.decode_image(image, rotate=kind == "class") if image.dtype == tf.string else image
        own_size = {"own_size": tf.shape(image)[:2]} if keep_scale or label_size is not None else {}
        if keep_scale:
            image, label = labels.fill(image, image_size, transforms.GRAY), labels.fill(label, image_size, IGNORED)
        image = tf.ensure_shape(transforms.eval_transform(image, image_size=image_size, **settings), [*image_size, 3])
        if label_size is not None:
            element = {"image": image, "label": labels.pad(label, label_size)}
        else:
            element = _element(image, labels.resize(label, image_size), image_size, max_boxes)
        if kind == "boxes":
            element["label"]["size"] = tf.ensure_shape(size, [2])
        own_size = {name: tf.ensure_shape(size, [2]) for name, size in own_size.items()}
        return number, {**element, **own_size, "mask": 1.0}

    return dataset.map(preprocess_one, num_parallel_calls=tf.data.AUTOTUNE)


def pad(dataset, numbers):
    """Appends one element of zeros for each number.

    Args:
        dataset: tf.data.Dataset of (number, dict) with fully defined shapes.
        numbers: tf.data.Dataset of int64 [].

    Returns:
        tf.data.Dataset like `dataset`.
    """
    spec = dataset.element_spec[1]

    def zeros(number):
        return number, tf.nest.map_structure(lambda tensor: tf.zeros(tensor.shape, tensor.dtype), spec)

    return dataset.concatenate(numbers.map(zeros))


def batch(dataset, batch_size):
    """Batches the dicts of (number, dict) and drops the numbers and an incomplete last batch.

    For images that may be corrupt, `corrupt.replace_corrupt` takes this stage's place.
    """
    batches = dataset.batch(batch_size, drop_remainder=True)
    return batches.map(lambda numbers, elements: elements)


def keep_order(dataset):
    """Makes the dataset deterministic whatever options its caller sets, so that the order of examples is fixed."""
    options = tf.data.Options()
    options.deterministic = True
    return dataset.with_options(options)


def mask_corrupt(dataset):
    """Sets "mask" to 0 for the images that replace corrupt ones.

    Args:
        dataset: tf.data.Dataset of batches with "mask" float32 [batch], and "corrupt" int64 [batch] if images may be
            corrupt.
    """
    if "corrupt" not in dataset.element_spec:
        return dataset

    def mask(batch):
        return {**batch, "mask": tf.where(batch["corrupt"] == NOT_CORRUPT, batch["mask"], 0.0)}

    return dataset.map(mask)


def mix(dataset, augmentation, *, num_classes, mean, std):
    """Applies mixup and CutMix to batches, and normalizes each image as soon as it is mixed.

    Args:
        dataset: tf.data.Dataset of dicts: "image" uint8 [batch, height, width, 3], "label" int32 [batch], "mix" float32
            [batch, 6]. Without mixup and CutMix it is returned unchanged.
        augmentation: Augmentation.
        num_classes: int.
        mean, std: Three numbers on 0..255.

    Returns:
        tf.data.Dataset of dicts: "image" float32 [batch, height, width, 3], "label" float32 [batch, num_classes].
    """
    if not augmentation.mixes:
        return dataset

    def mix_batch(batch):
        image, label = mixing.mix(
            batch["image"],
            batch["label"],
            batch["mix"],
            num_classes,
            has_boxes=augmentation.cutmix is not None,
            finish=lambda image: transforms.normalize(image, mean, std),
        )
        return {"image": image, "label": label}

    return dataset.map(mix_batch, num_parallel_calls=tf.data.AUTOTUNE)


def check_size(dataset, largest):
    """Removes "own_size", height and width of images, from batches, and fails if one is larger than `largest`.

    The error is one that `reraise_data_errors` turns into a DataError.
    """

    def check(batch):
        batch = dict(batch)
        found = tf.reduce_max(batch.pop("own_size"), 0)
        message = f"DataError: an image is larger than eval_size={tuple(largest)}; increase it to"
        fits = tf.raw_ops.Assert(condition=tf.reduce_all(found <= largest), data=[message, found])
        with tf.control_dependencies([fits]):
            return tf.nest.map_structure(tf.identity, batch)

    return dataset.map(check)


def normalize(dataset, *, mean, std):
    """Normalizes batches of uint8 images; float32 images are normalized already.

    Args:
        dataset: tf.data.Dataset of dicts with "image" [batch, height, width, 3].
        mean, std: Three numbers on 0..255.
    """
    if dataset.element_spec["image"].dtype != tf.uint8:
        return dataset
    return dataset.map(
        lambda batch: {**batch, "image": transforms.normalize(batch["image"], mean, std)},
        num_parallel_calls=tf.data.AUTOTUNE,
    )


def _element(image, label, image_size, max_boxes):
    """Returns the dict of an image and its label with static shapes: TPUs compile for one shape."""
    label = labels.to_static_shape(label, image_size, max_boxes)
    return {"image": tf.ensure_shape(image, [*image_size, 3]), "label": label}
