"""A SavedModel that takes pictures and answers with their classes, or their pixels', preprocessing inside."""

import os

import keras
import tensorflow as tf

from convzoo import data

LABELS = "labels.txt"


class Served(tf.Module):
    """A network with its preprocessing, as TensorFlow alone can load it. A subclass says what it answers.

    Args:
        model: From normalised float images to logits; float32, so that any machine can serve it.
        labels_file: Path of a text file with the names, one a line; it becomes an asset of the SavedModel.
        **inputs: Size and normalisation of the pictures, as `data.eval_transform` takes them.
    """

    def __init__(self, model: keras.Model, labels_file: str, **inputs):
        super().__init__(name=type(self).__name__.lower())
        # Only the variables are tracked: the network's layers stay out of the SavedModel, so it loads without Keras.
        self._weights = [weight.value for weight in model.weights]
        self._labels = tf.saved_model.Asset(labels_file)
        size = inputs["image_size"]

        def prepared(pictures):
            shape = (None, *size, 3)[4 - pictures.shape.rank :]
            return tf.ensure_shape(data.eval_transform(pictures, **inputs), shape)

        def logits_of(images):
            return tf.cast(model(images, training=False), tf.float32)

        def from_bytes(image_bytes):
            return self.answer_bytes(_checked(image_bytes), prepared, logits_of)

        def from_images(images):
            return self.answer(logits_of(prepared(images)), tf.shape(images)[1:3])

        self.image_bytes = tf.function(from_bytes, input_signature=[tf.TensorSpec([None], tf.string, "image_bytes")])
        # One function, traced for both types: `loaded.images(batch)` takes either.
        self.images = tf.function(from_images)
        self.signatures_by_name = {
            "serving_default": self.image_bytes,
            "images": self.images.get_concrete_function(tf.TensorSpec([None, None, None, 3], tf.uint8, "images")),
            "images_float": self.images.get_concrete_function(
                tf.TensorSpec([None, None, None, 3], tf.float32, "images")
            ),
        }

    def answer(self, logits, size):
        """The outputs of a signature, by name, for pictures of `size` (height, width; int32 tensors)."""
        raise NotImplementedError

    def answer_bytes(self, image_bytes, prepared, logits_of):
        """`answer` for encoded pictures, string [batch].

        Args:
            image_bytes: The pictures, JPEG or PNG.
            prepared: The preprocessing, of a picture or of several of one size.
            logits_of: The network.
        """
        raise NotImplementedError


class Classifier(Served):
    """Classes of pictures."""

    def answer(self, logits, size):
        return {"classes": tf.argmax(logits, -1), "probabilities": tf.nn.softmax(logits), "logits": logits}

    def answer_bytes(self, image_bytes, prepared, logits_of):
        # One by one: pictures of a batch may differ in size until they are prepared.
        images = tf.map_fn(
            lambda encoded: prepared(data.decode_image(encoded)), image_bytes, fn_output_signature=tf.float32
        )
        return self.answer(logits_of(images), None)


class Segmenter(Served):
    """Classes of pixels, at the pictures' own size."""

    def answer(self, logits, size):
        scores = tf.image.resize(logits, size, method="bilinear")
        return {"classes": tf.argmax(scores, -1, tf.int32), "probabilities": tf.nn.softmax(scores)}

    def answer_bytes(self, image_bytes, prepared, logits_of):
        shapes = tf.map_fn(
            lambda encoded: tf.shape(data.decode_image(encoded)), image_bytes, fn_output_signature=tf.int32
        )
        different = tf.where(tf.reduce_any(shapes != shapes[:1], axis=-1))
        places = ["pictures of one batch must be of one size; of another than the first are these:", different]
        with tf.control_dependencies([tf.debugging.Assert(tf.size(different) == 0, places)]):
            image_bytes = tf.identity(image_bytes)
        images = tf.map_fn(data.decode_image, image_bytes, fn_output_signature=tf.TensorSpec([None, None, 3], tf.uint8))
        return self.answer(logits_of(prepared(images)), tf.shape(images)[1:3])


def _checked(image_bytes):
    """The same pictures, or an error that names the places of those that are none."""
    wrong = tf.where(~_is_picture(image_bytes))
    places = ["not a JPEG or PNG picture, at these places of the batch:", wrong]
    # The decoder must wait for the check: its own complaint does not say which picture is meant.
    with tf.control_dependencies([tf.debugging.Assert(tf.size(wrong) == 0, places)]):
        return tf.identity(image_bytes)


def _is_picture(image_bytes):
    png = tf.constant(b"\x89PNG\r\n\x1a\n")
    return tf.logical_or(
        tf.strings.substr(image_bytes, 0, 3) == tf.constant(b"\xff\xd8\xff"),
        tf.strings.substr(image_bytes, 0, 8) == png,
    )


class ExportError(ValueError):
    """An export that cannot be written where it was asked for: one line with the folder and what to do."""


def check_target(folder: str) -> None:
    """Raises ExportError unless `folder` is new, empty, or holds a SavedModel alone, which may be replaced."""
    if not tf.io.gfile.exists(folder):
        return
    if not tf.io.gfile.isdir(folder):
        raise ExportError(f"{folder!r} is a file; give a folder of the export's own")
    found = {name.rstrip("/") for name in tf.io.gfile.listdir(folder)}
    others = found - {"saved_model.pb", "fingerprint.pb", "variables", "assets", "assets.extra"}
    if found and (others or "saved_model.pb" not in found):
        raise ExportError(
            f"{folder!r} holds other things ({', '.join(sorted(others or found)[:3])}) and would be replaced; "
            "give a folder of the export's own"
        )


def export_saved_model(
    model: keras.Model, folder: str, class_names: list[str], has_maps: bool = False, **inputs
) -> None:
    """Writes `model` as a SavedModel to `folder`; an export that is there already is replaced once the new is whole.

    Signatures, all for any batch, all answering with "classes" (int64 [batch]), "probabilities" and "logits" (float32
    [batch, classes]); or of a network that classifies pixels, at the size of the pictures, which must be one for all
    pictures of a batch, with "classes" (int32 [batch, height, width]) and "probabilities" (float32 [batch, height,
    width, classes]):

    - `serving_default`: "image_bytes", string [batch], encoded JPEG or PNG pictures of any size;
    - `images`: "images", uint8 [batch, height, width, 3] of any height and width;
    - `images_float`: the same as float32 on the scale 0 to 255.

    The class names lie in assets/labels.txt, one a line.

    Args:
        model: From normalised float images to logits, with float32 computation.
        folder: Local or gs:// folder.
        class_names: One name a class.
        has_maps: Whether the network classifies pixels.
        **inputs: Size and normalisation of the pictures, as `data.eval_transform` takes them.

    Raises:
        ExportError: See `check_target`.
    """
    check_target(folder)
    folder = folder.rstrip("/")
    unfinished, old = f"{folder}.unfinished", f"{folder}.old"
    for left_over in (unfinished, old):
        if tf.io.gfile.exists(left_over):
            tf.io.gfile.rmtree(left_over)
    tf.io.gfile.makedirs(unfinished)
    labels_file = os.path.join(unfinished, LABELS)
    with tf.io.gfile.GFile(labels_file, "w") as file:
        file.write("".join(f"{name}\n" for name in class_names))
    served = (Segmenter if has_maps else Classifier)(model, labels_file, **inputs)
    tf.saved_model.save(served, unfinished, signatures=served.signatures_by_name)
    tf.io.gfile.remove(labels_file)
    if tf.io.gfile.exists(folder):
        tf.io.gfile.rename(folder, old)
    tf.io.gfile.rename(unfinished, folder)
    if tf.io.gfile.exists(old):
        tf.io.gfile.rmtree(old)
