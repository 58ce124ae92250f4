"""Export of networks as one file: LiteRT, ONNX, or Keras's own format."""

import logging
import os
import tempfile
from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

import convzoo
from convzoo import files, layers
from convzoo.errors import ConfigError, ModelError, UnavailableError, UserError, first_line
from convzoo.serving import parity
from convzoo.serving.model_file import (
    SUFFIXES,
    add_metadata,
    check_output_file,
    file_format,
    load_model_file,
    require,
)
from convzoo.serving.outputs import image_outputs, reference_function
from convzoo.tasks import Task

ONNX_OPSET = 18


def export_model_file(
    model: keras.Model,
    path: str,
    class_names: Sequence[str],
    task: Task,
    *,
    images: np.ndarray,
    quantize: str = "none",
    calibration_images: np.ndarray | None = None,
    tolerance: float | None = None,
    min_agreement: float | None = None,
    **input_settings,
) -> parity.Parity:
    """Writes `model` to a `.tflite` (LiteRT), `.onnx` or `.keras` file, after a comparison with the network.

    The input "images" is [batch, height, width, 3] on the scale 0 to 255 with the size of the network's input, for any
    batch size; the file contains the normalization. Crop and resize are left to the caller, see
    `ModelFile.preprocess`.

    - LiteRT and ONNX take uint8 and return the outputs of the SavedModel (`export_saved_model`): for classification
      "classes" (int64 [batch]), "probabilities" and "logits" (float32 [batch, classes]). Label maps have the size of
      the input. For detection they are those of the signature `images_raw`, "boxes" in pixels of the input and
      "scores" of all anchors.
    - `.keras` takes uint8 or floats and returns the outputs of the network, such as the logits. It loads by
      `keras.models.load_model` after `import convzoo`.

    Args:
        model: Network from normalized float images to outputs, which computes in float32.
        path: Local or gs:// file. A file that an export wrote is replaced after the new one is complete.
        class_names: Name of each class.
        task: Task that the network was trained for.
        images: uint8 [images, height, width, 3] of the size of the network's input, to compare outputs on.
        quantize: LiteRT only. "float16" stores weights in half the bytes. "int8" stores and computes weights and
            activations in 8 bits; the inputs and outputs keep their types.
        calibration_images: For int8: images as `images`, from which the ranges of the activations are taken.
        tolerance, min_agreement: See `parity.Parity.check`.
        **input_settings: Arguments of `data.eval_transform`: size and normalization of the images.

    Returns:
        The comparison.

    Raises:
        ConfigError: The name has no end of a format, the file at `path` is another one, quantization does not apply,
            or a library is missing.
        ModelError: The network cannot be converted, or the exported model differs from it. Nothing is written then.
        UnavailableError: The file cannot be written.

    Example:
        >>> import tempfile
        >>> from convzoo import models, serving
        >>> from convzoo.tasks import TASKS
        >>> model = models.create_model("mobilenet_v1_x0_25", 2, (32, 32, 3))
        >>> path, images = f"{tempfile.mkdtemp()}/model.tflite", np.zeros((4, 32, 32, 3), np.uint8)
        >>> settings = {"image_size": (32, 32), "mean": [127] * 3, "std": [127] * 3, "crop_fraction": 1.0}
        >>> task, settings = TASKS["classification"], {**settings, "interpolation": "bilinear"}
        >>> serving.export_model_file(model, path, ["cat", "dog"], task, images=images, **settings).top1
        1.0
        >>> serving.load_model_file(path)(images)["probabilities"].shape
        (4, 2)
    """
    check_output_file(path)
    kind = file_format(path)
    check_quantization(kind, quantize)
    if quantize == "int8" and calibration_images is None:
        raise ConfigError("int8 is calibrated on images; pass calibration_images")
    metadata = {
        "version": convzoo.__version__,
        "format": kind,
        **({"opset": ONNX_OPSET} if kind == "onnx" else {}),
        "quantize": quantize,
        "task": type(task).__name__.lower(),
        "class_names": list(class_names),
        **input_settings,
    }
    with tempfile.TemporaryDirectory() as folder:
        temporary = os.path.join(folder, f"model{SUFFIXES[kind]}")
        try:
            if kind == "keras":
                _with_normalization(model, input_settings).save(temporary)
            else:
                function = _serving_function(model, task, input_settings)
                if kind == "onnx":
                    _write_onnx(function, temporary)
                else:
                    _write_litert(function, temporary, quantize, calibration_images)
        except UserError:
            raise
        except Exception as error:  # converters raise exceptions of many types
            raise ModelError(f"{model.name} cannot be converted to {kind} ({first_line(error)})") from error
        add_metadata(temporary, metadata)
        settings = {**input_settings, "image_size": None, "crop_fraction": None}
        reference = reference_function(model, None if kind == "keras" else task, settings)
        result = parity.compare(reference, load_model_file(temporary), images)
        result.check(quantize, tolerance, min_agreement)
        with open(temporary, "rb") as file:
            content = file.read()
    check_output_file(path)  # somebody may have written to it meanwhile
    try:
        files.write_bytes(path, content)
    except (OSError, tf.errors.OpError) as error:
        raise UnavailableError(
            f"cannot write to {path!r} ({first_line(error)}); free disk space or choose another --output"
        ) from error
    return result


def check_quantization(kind: str, quantize: str) -> None:
    """Raises ConfigError unless a format has a quantization.

    Example:
        >>> check_quantization("litert", "int8")
    """
    if quantize not in parity.LIMITS:
        raise ConfigError(f"quantize={quantize!r} is unknown; use one of {', '.join(parity.LIMITS)}")
    if quantize != "none" and kind != "litert":
        raise ConfigError(f"quantize={quantize} applies to litert, not to {kind}; leave it out")


def _with_normalization(model, input_settings):
    variance = [float(std) ** 2 for std in input_settings["std"]]
    images = keras.Input((*input_settings["image_size"], 3), name="images")
    normalization = keras.layers.Normalization(mean=list(map(float, input_settings["mean"])), variance=variance)
    return keras.Model(images, model(normalization(images)), name=model.name)


def _serving_function(model, task, input_settings):
    """Returns a concrete function without variables, from uint8 images to outputs by name."""
    size = input_settings["image_size"]
    mean = tf.constant(input_settings["mean"], tf.float32)
    scale = tf.constant([1.0 / std for std in input_settings["std"]], tf.float32)

    @tf.function(input_signature=[tf.TensorSpec([None, *size, 3], tf.uint8, "images")])
    def serve(images):
        # Not `data.eval_transform`, whose shapes are computed: the runtimes optimize only what has a known shape.
        inputs = (tf.cast(images, tf.float32) - mean) * scale
        return image_outputs(task, task.predict(model, inputs), size)

    previous_target = layers.get_target()
    layers.set_target("lite")
    try:
        function = serve.get_concrete_function()
    finally:
        layers.set_target(previous_target)
    # LiteRT does not quantize weights that are variables. Freezing leaves out the names of the outputs.
    frozen, names = convert_variables_to_constants_v2(function), sorted(function.structured_outputs)
    return tf.function(
        lambda images: dict(zip(names, frozen(images), strict=True)), input_signature=serve.input_signature
    )


def _write_litert(function, path, quantize, calibration_images):
    module = tf.Module()
    module.serve = function
    with tempfile.TemporaryDirectory() as folder:
        # A SavedModel, because it keeps the names of the outputs.
        options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
        tf.saved_model.save(module, folder, function, options)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        if quantize != "none":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if quantize == "float16":
            converter.target_spec.supported_types = [tf.float16]
        if quantize == "int8":
            converter.representative_dataset = lambda: ([image[np.newaxis]] for image in calibration_images)
            # What has no int8 implementation, such as an exponential, is computed in float32.
            operations = tf.lite.OpsSet
            converter.target_spec.supported_ops = [operations.TFLITE_BUILTINS_INT8, operations.TFLITE_BUILTINS]
        content = converter.convert()
    with open(path, "wb") as file:
        file.write(content)


def _write_onnx(function, path):
    onnx, tf2onnx = require("onnx", "onnx"), require("tf2onnx", "onnx")
    logging.getLogger("tf2onnx").setLevel(logging.CRITICAL)  # the checker reports operations that ONNX lacks
    converted, _ = tf2onnx.convert.from_function(function, function.input_signature, opset=ONNX_OPSET)
    for value in (*converted.graph.input, *converted.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    onnx.checker.check_model(converted)
    onnx.save(converted, path)
