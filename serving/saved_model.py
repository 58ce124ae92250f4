"""SavedModels that take images and return predictions; they contain the preprocessing."""

import contextlib
import os
import tempfile
import uuid
from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from convzoo import data
from convzoo.data import decoding
from convzoo.errors import ConfigError, UnavailableError, first_line
from convzoo.files import check_no_pattern, new_folder
from convzoo.serving import parity
from convzoo.serving.outputs import has_raw_outputs, reference_function
from convzoo.tasks import Task

_LABELS_FILE = "labels.txt"


def export_saved_model(
    model: keras.Model,
    folder: str,
    class_names: Sequence[str],
    task: Task,
    max_pixels: int = data.MAX_PIXELS,
    *,
    images: np.ndarray | None = None,
    tolerance: float | None = None,
    min_agreement: float | None = None,
    **input_settings,
) -> parity.Parity | None:
    """Writes `model` as a SavedModel to `folder`. An existing SavedModel is replaced after the new one is complete.

    The SavedModel has these signatures, all for any batch size:

    - `serving_default`: "image_bytes", string [batch], encoded images of any size and format of `data.decode_image`;
    - `images`: "images", uint8 [batch, height, width, 3], any height and width;
    - `images_float`: "images", float32 [batch, height, width, 3] on the scale 0 to 255.

    Each signature returns `task.export_outputs`. For classification these are "classes" (int64 [batch]),
    "probabilities" and "logits" (float32 [batch, classes]). For segmentation they are "classes" (int32 [batch, height,
    width]) and "probabilities" (float32 [batch, height, width, classes]) at the size of the images; the encoded images
    of a batch must have one size. For detection they are the detections by decreasing score, padded with zeros: "boxes"
    (float32 [batch, max_detections, 4]: top, left, bottom, right in pixels of the image), "scores" (float32 [batch,
    max_detections]), "classes" (int32 [batch, max_detections]) and their number "count" (int32 [batch]). A further
    signature `images_raw` has the inputs of `images` and returns the "boxes" (float32 [batch, anchors, 4], in pixels)
    and "scores" (float32 [batch, anchors, classes]) of all anchors, without non-maximum suppression. For verification
    the output is "embeddings" (float32 [batch, size], unit vectors), and a further signature `compare` takes the
    encoded images "image_bytes_1" and "image_bytes_2" of pairs and returns their "cosines" (float32 [batch]).

    Images of another format, of too many pixels or of another size, and floats that are NaN or infinite raise
    InvalidArgumentError, which names their indices in the batch. An empty batch has empty outputs.

    Args:
        model: Network from normalized float images to outputs, which computes in float32.
        folder: Local or gs:// folder.
        class_names: Name of each class; they are written to assets/labels.txt, one per line.
        task: Task that the network was trained for.
        max_pixels: Largest number of pixels of an encoded image, see `data.decode_image`. The loaded SavedModel names
            it in the attribute `max_pixels`; assigning that changes nothing.
        images: uint8 [images, height, width, 3], to compare the outputs of the SavedModel with those of the network on;
            None for no comparison.
        tolerance, min_agreement: See `parity.Parity.check`.
        **input_settings: Arguments of `data.eval_transform`: size and normalization of the images. With the size None,
            the network receives images of any size.

    Returns:
        The comparison, if there are images.

    Raises:
        ConfigError: The folder is not empty; see `check_output_folder`.
        ModelError: The SavedModel differs from the network. Nothing is written then.
        UnavailableError: The folder cannot be written.

    Example:
        >>> import tempfile
        >>> import tensorflow as tf
        >>> from convzoo import models
        >>> from convzoo.tasks import TASKS
        >>> model = models.create_model("mobilenet_v1_x0_25", 2, (32, 32, 3))
        >>> folder = tempfile.mkdtemp()
        >>> settings = {"image_size": (32, 32), "mean": [127] * 3, "std": [127] * 3, "crop_fraction": None}
        >>> task = TASKS["classification"]
        >>> export_saved_model(model, folder, ["cat", "dog"], task, interpolation="bicubic", **settings)
        >>> outputs = tf.saved_model.load(folder).signatures["images"](images=tf.zeros([1, 40, 60, 3], tf.uint8))
        >>> outputs["probabilities"].shape.as_list()
        [1, 2]
    """
    check_output_folder(folder)
    with _new_folder(folder.rstrip("/")) as temporary, tempfile.TemporaryDirectory() as assets:
        labels_file = os.path.join(assets, _LABELS_FILE)
        with open(labels_file, "w", encoding="utf-8") as file:
            file.write("".join(f"{name}\n" for name in class_names))
        served = _ServedModel(model, labels_file, task, max_pixels, input_settings)
        tf.saved_model.save(served, temporary, signatures=served.signatures_by_name)
        result = None
        if images is not None:
            loaded = tf.saved_model.load(temporary)
            serve = loaded.images_raw if has_raw_outputs(task) else loaded.images
            reference = reference_function(model, task, input_settings)
            result = parity.compare(reference, lambda batch: serve(tf.constant(batch)), images)
            result.check("none", tolerance, min_agreement)
        check_output_folder(folder)  # somebody may have written to it meanwhile
    return result


@contextlib.contextmanager
def _new_folder(folder):
    """As `convzoo.files.new_folder`, also for object stores, which have no folders to rename.

    There the new SavedModel is uploaded beside the old one first. A process that is killed while it replaces the old
    one leaves the complete new one under the other name.
    """
    if "://" not in folder:
        try:
            with new_folder(folder) as temporary:
                yield temporary
        except (OSError, tf.errors.OpError) as error:
            if isinstance(error, tf.errors.OpError) and os.path.basename(folder) not in str(error):
                raise  # not about a file of the SavedModel
            raise UnavailableError(
                f"cannot write to {folder!r} ({first_line(error)}); free disk space or choose another --output"
            ) from error
        return
    with tempfile.TemporaryDirectory() as temporary:
        yield temporary
        parent, name = os.path.split(folder)
        uploaded = f"{parent}/{uuid.uuid4().hex}.{name}"
        try:
            _copy_folder(temporary, uploaded)
        except tf.errors.OpError as error:
            with contextlib.suppress(tf.errors.OpError):
                tf.io.gfile.rmtree(uploaded)
            raise UnavailableError(f"cannot write to {folder!r} ({first_line(error)}); nothing was replaced") from error
        try:
            if tf.io.gfile.exists(folder):
                tf.io.gfile.rmtree(folder)
            _copy_folder(uploaded, folder)
            tf.io.gfile.rmtree(uploaded)
        except tf.errors.OpError as error:
            raise UnavailableError(
                f"cannot replace {folder!r} ({first_line(error)}); the complete SavedModel is in {uploaded!r}"
            ) from error


def _copy_folder(source, target):
    for parent, _, names in tf.io.gfile.walk(source):
        for name in names:
            path = f"{target}/{os.path.relpath(os.path.join(parent, name), source)}"
            tf.io.gfile.makedirs(os.path.dirname(path))
            tf.io.gfile.copy(os.path.join(parent, name), path, overwrite=True)


def check_output_folder(folder: str) -> None:
    """Raises ConfigError unless `folder` does not exist, is empty, or contains a SavedModel and nothing else.

    Example:
        >>> check_output_folder("runs/new/saved_model")
    """
    check_no_pattern(folder, "--output")
    if not tf.io.gfile.exists(folder):
        return
    if not tf.io.gfile.isdir(folder):
        raise ConfigError(f"output folder {folder!r} is a file; choose another --output")
    names = {name.rstrip("/") for name in tf.io.gfile.listdir(folder)}
    others = names - {"saved_model.pb", "fingerprint.pb", "variables", "assets", "assets.extra"}
    if names and (others or "saved_model.pb" not in names):
        raise ConfigError(
            f"output folder {folder!r} would be replaced but contains other files "
            f"({', '.join(sorted(others or names)[:3])}); choose another --output"
        )


class _ServedModel(tf.Module):
    """A network with its preprocessing, which TensorFlow alone can load. Arguments as in `export_saved_model`."""

    def __init__(self, model, labels_file, task, max_pixels, input_settings):
        super().__init__(name="served_model")
        # Of the model, only the variables are attributes: without Keras layers the SavedModel loads without Keras.
        self._weights = [weight.value for weight in model.weights]
        self._labels = tf.saved_model.Asset(labels_file)
        self.max_pixels = tf.Variable(max_pixels, trainable=False, dtype=tf.int64)

        def preprocess(images):
            shape = (None, *(input_settings["image_size"] or (None, None)), 3)[4 - images.shape.rank :]
            return tf.ensure_shape(data.eval_transform(images, **input_settings), shape)

        def predict(inputs, image_sizes, export_outputs=task.export_outputs):
            # Convolutions of oneDNN fail for an empty batch.
            count = tf.shape(inputs)[0]
            shape = tf.concat([[1], tf.maximum(tf.shape(inputs)[1:], 1)], 0)
            inputs = tf.ensure_shape(tf.cond(count > 0, lambda: inputs, lambda: tf.zeros(shape)), inputs.shape)
            outputs = export_outputs(task.predict(model, inputs), image_sizes[: tf.maximum(count, 1)])
            return {name: value[:count] for name, value in outputs.items()}

        def from_images(images, export_outputs=task.export_outputs):
            if images.dtype.is_floating:
                is_finite = tf.reduce_all(tf.math.is_finite(images), axis=[1, 2, 3])
                images = _require(is_finite, images, "NaN or infinite values at batch index:")
            # One more row than images, for an empty batch.
            image_sizes = tf.tile(tf.shape(images)[tf.newaxis, 1:3], [tf.shape(images)[0] + 1, 1])
            return predict(preprocess(images), image_sizes, export_outputs)

        def decode(encoded):
            return data.decode_image(encoded, max_pixels)

        def from_bytes(image_bytes):
            image_bytes = require_images(image_bytes, max_pixels)
            if task.label_kind == "map":
                return from_images(_decode_same_size(image_bytes, decode))
            # Images may differ in size before preprocessing, so they are preprocessed one at a time.
            specs = tf.TensorSpec([*input_settings["image_size"], 3], tf.float32), tf.TensorSpec([2], tf.int32)
            inputs, image_sizes = tf.map_fn(
                lambda encoded: (preprocess(decode(encoded)), decoding.image_size(encoded)),
                image_bytes,
                fn_output_signature=specs,
            )
            return predict(inputs, tf.concat([image_sizes, [[1, 1]]], 0))

        self.image_bytes = tf.function(from_bytes, input_signature=[tf.TensorSpec([None], tf.string, "image_bytes")])
        # Both traces belong to one function, so `loaded.images(batch)` accepts uint8 and float32.
        self.images = tf.function(lambda images: from_images(images))
        raw = {}
        if has_raw_outputs(task):
            spec = tf.TensorSpec([None, None, None, 3], tf.uint8, "images")
            self.images_raw = tf.function(
                lambda images: from_images(images, task.export_raw_outputs), input_signature=[spec]
            )
            raw["images_raw"] = self.images_raw
        compare = {}
        if type(task).compare is not Task.compare:
            specs = [tf.TensorSpec([None], tf.string, f"image_bytes_{number}") for number in (1, 2)]

            def compare_images(first, second):
                same = tf.debugging.Assert(
                    tf.size(first) == tf.size(second),
                    ["image_bytes_1 and image_bytes_2 have different sizes:", tf.size(first), tf.size(second)],
                )
                with tf.control_dependencies([same]):
                    return task.compare(from_bytes(tf.identity(first)), from_bytes(tf.identity(second)))

            self.compare = tf.function(compare_images, input_signature=specs)
            compare["compare"] = self.compare
        self.signatures_by_name = {
            "serving_default": self.image_bytes,
            **raw,
            **compare,
            **{
                name: self.images.get_concrete_function(tf.TensorSpec([None, None, None, 3], dtype, "images"))
                for name, dtype in (("images", tf.uint8), ("images_float", tf.float32))
            },
        }


def require_images(image_bytes, max_pixels):
    """Returns `image_bytes`, string [batch], after checks of format and size; the decoder's errors name no image."""
    has_format = tf.map_fn(decoding.has_known_format, image_bytes, fn_output_signature=tf.TensorSpec([], tf.bool))
    image_bytes = _require(has_format, image_bytes, f"not an image ({decoding.FORMATS}) at batch index:")

    def is_small(encoded):  # a large JPEG image is decoded at a reduced scale
        return tf.io.is_jpeg(encoded) | (tf.reduce_prod(decoding.stored_size(encoded)) <= max_pixels)

    small = tf.map_fn(is_small, image_bytes, fn_output_signature=tf.TensorSpec([], tf.bool))
    return _require(small, image_bytes, f"more than {max_pixels} pixels at batch index:")


def _decode_same_size(image_bytes, decode):
    """Decodes images, uint8 [batch, height, width, 3]; raises InvalidArgumentError if their sizes differ."""
    shapes = tf.map_fn(lambda encoded: tf.shape(decode(encoded)), image_bytes, fn_output_signature=tf.int32)
    # `map_fn` cannot stack no images of unknown size.
    is_empty = tf.shape(image_bytes)[0] == 0
    is_same = tf.reduce_all(shapes == shapes[:1], axis=-1)
    image_bytes = _require(is_same, image_bytes, "size differs from that of the first image at batch index:")
    return tf.cond(
        is_empty,
        lambda: tf.zeros([0, 1, 1, 3], tf.uint8),
        lambda: tf.map_fn(decode, image_bytes, fn_output_signature=tf.TensorSpec([None, None, 3], tf.uint8)),
    )


def _require(conditions, tensor, message):
    """Returns `tensor` after an assertion that all `conditions` [batch] hold; its error lists the other indices."""
    indices = tf.where(~conditions)
    with tf.control_dependencies([tf.debugging.Assert(tf.size(indices) == 0, [message, indices])]):
        return tf.identity(tensor)
