"""Files of exported networks: LiteRT, ONNX and Keras, each with its settings as JSON in the file."""

import importlib
import io
import json
import os
import tempfile
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from convzoo import data
from convzoo.errors import ConfigError, ModelError, first_line
from convzoo.files import check_no_pattern
from convzoo.serving.outputs import in_batches, named_outputs
from convzoo.serving.saved_model import require_images

SUFFIXES = {"litert": ".tflite", "onnx": ".onnx", "keras": ".keras"}
_NAME = "convzoo.json"  # entry of the zip archive that a .keras file is and that is appended to a .tflite file
_KEY = "convzoo"  # of ONNX metadata
_REQUIRED = ("format", "task", "class_names", "image_size", "crop_fraction", "interpolation")


def file_format(path: str) -> str:
    """Returns the format, a key of `SUFFIXES`, of a file by the end of its name.

    Raises:
        ConfigError: The name has another end.

    Example:
        >>> file_format("runs/a/model.tflite")
        'litert'
    """
    for name, suffix in SUFFIXES.items():
        if path.endswith(suffix):
            return name
    raise ConfigError(f"{path!r} is no exported file; its name must end with {', '.join(SUFFIXES.values())}")


def require(module: str, extra: str):
    """Returns an optional module. Raises ConfigError, which names the extra that installs it, if it is missing."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        name = module.partition(".")[0]
        raise ConfigError(
            f"{name} is missing ({first_line(error)}); install it with: pip install 'convzoo[{extra}]'"
        ) from error


def add_metadata(path: str, metadata: dict[str, Any]) -> None:
    """Writes the settings of a network into its local file.

    LiteRT and Keras ignore the added archive and entry.
    """
    text = json.dumps(metadata, ensure_ascii=False)
    if file_format(path) != "onnx":
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr(_NAME, text)
        return
    onnx = require("onnx", "onnx")
    model = onnx.load(path)
    onnx.helper.set_model_props(model, {_KEY: text})
    onnx.save(model, path)


def read_metadata(content: bytes, file_format: str) -> dict[str, Any]:
    """Returns what `add_metadata` wrote.

    Args:
        content: The file.
        file_format: Key of `SUFFIXES`.

    Raises:
        ModelError: The file is damaged or was written by another program.
    """
    try:
        if file_format == "onnx":
            properties = require("onnx", "onnx").load_from_string(content).metadata_props
            text = {entry.key: entry.value for entry in properties}[_KEY]
        else:
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                text = archive.read(_NAME)
        metadata = json.loads(text)
        return {name: metadata[name] for name in (*_REQUIRED, *metadata)}
    except ConfigError:
        raise
    except Exception as error:  # damaged files raise exceptions of many types
        raise ModelError(f"has no settings of convzoo ({first_line(error)})") from error


def check_output_file(path: str) -> None:
    """Raises ConfigError unless `path` can be exported to.

    It must have the end of a format whose libraries are installed, and not exist or be a file that an export wrote.

    Example:
        >>> check_output_file("runs/new/model.onnx")
    """
    check_no_pattern(path, "--output")
    kind = file_format(path)
    for module in ("onnx", "onnxruntime", "tf2onnx") if kind == "onnx" else ():
        require(module, "onnx")
    if not tf.io.gfile.exists(path):
        return
    if tf.io.gfile.isdir(path) or ("://" not in path and not os.path.isfile(path)):
        raise ConfigError(f"output file {path!r} is not a regular file; choose another --output")
    try:
        read_metadata(_read(path), kind)
    except ModelError as error:
        raise ConfigError(f"output file {path!r} would be replaced but {error}; choose another --output") from error


class ModelFile:
    """An exported network: a function from images to outputs. See `load_model_file`.

    Attributes:
        metadata: Settings of the export: "format", "quantize", "task", "class_names", and the preprocessing
            "image_size", "mean", "std", "crop_fraction" and "interpolation", see `data.eval_transform`.
    """

    def __init__(self, metadata: dict[str, Any], predict: Callable[[np.ndarray], dict[str, np.ndarray]]):
        self.metadata = metadata
        self._predict = predict

    def preprocess(self, images: np.ndarray) -> np.ndarray:
        """Crops and resizes images as the evaluation does.

        Args:
            images: uint8 [height, width, 3] or [batch, height, width, 3], any height and width.

        Returns:
            uint8 of the network's height and width.
        """
        settings = {name: self.metadata[name] for name in ("image_size", "crop_fraction", "interpolation")}
        pixels = data.eval_transform(images, mean=(0.0,) * 3, std=(1.0,) * 3, **settings)
        return tf.cast(tf.clip_by_value(tf.round(pixels), 0.0, 255.0), tf.uint8).numpy()

    def decode(self, encoded: bytes | tf.Tensor) -> np.ndarray:
        """Decodes an image file and crops and resizes the image: uint8 [height, width, 3].

        Raises:
            tf.errors.InvalidArgumentError: The image is corrupt, has too many pixels, or another format.
        """
        (encoded,) = require_images(tf.stack([encoded]), data.MAX_PIXELS)
        return self.preprocess(data.decode_image(encoded))

    def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Returns the outputs by name, arrays [batch, ...], of uint8 [batch, height, width, 3] images.

        The images have the network's height and width and are computed in batches of 8.
        """
        return in_batches(self._predict, images)


def load_model_file(path: str, num_threads: int | None = None) -> ModelFile:
    """Loads a `.tflite`, `.onnx` or `.keras` file of `export_model_file`, to run it on the CPU.

    Args:
        path: Local or gs:// file.
        num_threads: Threads of the LiteRT or ONNX runtime; None for its default.

    Raises:
        ConfigError: The name has another end, or the runtime is not installed.
        ModelError: The file cannot be read or loaded, or was not exported by convzoo.
    """
    kind = file_format(path)
    try:
        content = _read(path)
    except (tf.errors.OpError, UnicodeEncodeError) as error:
        raise ModelError(f"cannot read {path!r} ({first_line(error)}); give a file that the export wrote") from error
    try:
        metadata = read_metadata(content, kind)
    except ModelError as error:
        raise ModelError(f"file {path!r} {error}; give a file that the export wrote") from error
    runtimes = {"litert": _load_litert, "onnx": _load_onnx, "keras": _load_keras}
    try:
        predict = runtimes[kind](content, num_threads)
    except ConfigError:
        raise
    except Exception as error:  # damaged files raise exceptions of many types
        raise ModelError(f"cannot load {path!r} ({first_line(error)}); export it again") from error
    return ModelFile(metadata, predict)


def _read(path):
    with tf.io.gfile.GFile(path, "rb") as file:
        return file.read()


def _load_litert(content, num_threads):
    try:
        interpreter_class = importlib.import_module("ai_edge_litert.interpreter").Interpreter
    except ImportError:
        interpreter_class = tf.lite.Interpreter  # the same runtime in TensorFlow, which will remove it
    runner = interpreter_class(model_content=content, num_threads=num_threads).get_signature_runner()
    return lambda images: runner(images=images)


def _load_onnx(content, num_threads):
    onnxruntime = require("onnxruntime", "onnx")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = num_threads or 0
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return lambda images: dict(zip(names, session.run(names, {"images": images}), strict=True))


def _load_keras(content, num_threads):
    import keras

    del num_threads
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "model.keras")
        with open(path, "wb") as file:
            file.write(content)
        model = keras.models.load_model(path, compile=False)
    return lambda images: {
        name: np.asarray(value) for name, value in named_outputs(model(images, training=False)).items()
    }
