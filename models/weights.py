"""Weight files: the format of `keras.Model.save_weights` plus metadata that names the network and its overrides."""

import hashlib
import json
import os
import warnings

import h5py
import keras

from convzoo.errors import ModelError, first_line
from convzoo.files import new_file
from convzoo.models.operators import Operator, to_fields

SUFFIX = ".weights.h5"
# Name of the classifier layer, and prefix of the layers that belong to it ("head_dense_routing").
CLASSIFIER = "head_dense"
# Suffixes of the names of segmenters, detectors and embedders, which start with their backbone's.
SEGMENTER, DETECTOR, EMBEDDER = "_segmenter", "_detector", "_embedder"
# Prefix of the names of all layers after their backbone.
HEAD_PREFIXES = {SEGMENTER: "segment_", DETECTOR: "detect_", EMBEDDER: "embed_"}
_ATTRIBUTE = "convzoo"
_MAX_CHARACTERS = 320


def save_weights(
    model: keras.Model,
    path: str,
    overrides: dict | None = None,
    source: str = "",
    preprocessing: dict | None = None,
) -> None:
    """Writes the weights of `model` and their metadata to `path`, atomically.

    Args:
        model: A network that `create_model` built.
        path: File to write; ends in .weights.h5.
        overrides: The overrides that `create_model` received, "operator" among them; JSON values and operators.
            `create_model` applies them again.
        source: Where the weights come from, as text.
        preprocessing: "mean" and "std" of red, green and blue on the scale 0 to 255, where they differ from those of
            `info(model.name)`. Evaluation and export of the file use them.

    Raises:
        ModelError: The path has another suffix or cannot be written, an override is not JSON, or the model is a
            segmenter, a detector or an embedder.

    Example:
        >>> from convzoo import models
        >>> model = models.create_model("mobilenet_v1_x0_25", 10, (32, 32, 3), stem_strides=1)
        >>> models.save_weights(model, "net.weights.h5", overrides={"stem_strides": 1})
        >>> models.create_model("mobilenet_v1_x0_25", weights="net.weights.h5").output_shape
        (None, 10)
    """
    check_path(path)
    if model.name.endswith(tuple(HEAD_PREFIXES)):
        raise ModelError(
            f"{model.name} is no network of create_model, which could not rebuild it; use keras.Model.save"
        )
    metadata = {
        "model": model.name,
        "num_classes": _num_classes(model),
        "overrides": {
            key: to_fields(value) if isinstance(value, Operator) else value for key, value in (overrides or {}).items()
        },
        "source": source,
        **({"preprocessing": preprocessing} if preprocessing else {}),
        "fingerprint": _fingerprint(model),
    }
    try:
        json.dumps(metadata)
    except TypeError as error:
        raise ModelError(
            f"overrides of {model.name} cannot be saved as JSON ({first_line(error)}); use numbers and strings"
        ) from error
    try:
        with new_file(path, SUFFIX) as temporary:
            model.save_weights(temporary)
            with h5py.File(temporary, "r+") as file:
                file.attrs[_ATTRIBUTE] = json.dumps({**metadata, "checksum": _checksum(file)})
    except (OSError, RuntimeError) as error:  # HDF5 raises RuntimeError when the disk is full
        raise ModelError(f"cannot write {path!r} ({first_line(error)}); choose another path") from error


def read_metadata(path: str, name: str | None = None) -> dict:
    """Returns the metadata that `save_weights` wrote, or {} for a file that Keras wrote.

    The keys are "model", "num_classes", "overrides", "source", "fingerprint", a hash of the weight paths outside the
    classifier, "checksum", a hash of all values, and, if given, "preprocessing".

    Args:
        path: A `.weights.h5` file.
        name: The network that the file must belong to; None accepts any.

    Raises:
        ModelError: The file does not exist, is damaged or not HDF5, or belongs to another network.

    Example:
        >>> from convzoo import models
        >>> model = models.create_model("mobilenet_v1_x0_25", 10, (32, 32, 3))
        >>> models.save_weights(model, "net.weights.h5", source="my training")
        >>> metadata = models.read_metadata("net.weights.h5")
        >>> metadata["model"], metadata["num_classes"], metadata["source"]
        ('mobilenet_v1_x0_25', 10, 'my training')
    """
    check_path(path)
    if not os.path.isfile(path):
        advice = "copy it to this machine first" if "://" in path else "check the path"
        raise ModelError(f"weights {path!r} do not exist; {advice}")
    try:
        with h5py.File(path, "r") as file:
            metadata = json.loads(file.attrs.get(_ATTRIBUTE, "{}"))
            if not isinstance(metadata, dict) or not isinstance(metadata.get("overrides", {}), dict):
                raise TypeError("its metadata are no object")
    except (OSError, RuntimeError, ValueError, TypeError) as error:
        raise ModelError(f"weights {path!r} cannot be read ({first_line(error)}); write the file again") from error
    if "model" not in metadata:
        return {}
    if name is not None and metadata["model"] != name:
        raise ModelError(f"weights {path!r} belong to {metadata['model']!r}, not to {name!r}; create that network")
    metadata["overrides"] = {key: _to_tuple(value) for key, value in metadata.get("overrides", {}).items()}
    return metadata


def load_weights(model: keras.Model, path: str, new_classifier: bool = False) -> list[str]:
    """Loads the weights at `path` into `model`: all of them, or none when an error is raised.

    Args:
        model: The network, built by `create_model` with the overrides in the file's metadata.
        path: A file of `save_weights`, or of `keras.Model.save_weights` for the same network.
        new_classifier: Whether the classifier keeps its current weights. It also keeps them, with a warning, if the
            file has a different number of classes.

    Returns:
        Paths of the weights that were not loaded: those of the classifier, or none.

    Raises:
        ModelError: The file belongs to another network, is damaged or cannot be read, or a weight is not finite.

    Example:
        >>> from convzoo import models
        >>> model = models.create_model("mobilenet_v1_x0_25", 10, (32, 32, 3))
        >>> models.save_weights(model, "net.weights.h5")
        >>> models.load_weights(model, "net.weights.h5", new_classifier=True)
        ['head_dense/kernel', 'head_dense/bias']
    """
    metadata = read_metadata(path, model.name)
    fingerprint = _fingerprint(model)
    if metadata.get("fingerprint", fingerprint) != fingerprint:
        # Keras would load a smaller network from the file of a larger one without an error.
        raise ModelError(
            f"weights {path!r} have other layers than {model.name!r} as built here; create it with the overrides of "
            f"the file, {metadata['overrides']}"
        )
    classes, file_classes = _num_classes(model), metadata.get("num_classes")
    differs = None not in (classes, file_classes) and classes != file_classes
    # Loads into a copy first: a file that does not fit must not change the network.
    copy = _clone(model, file_classes if differs else classes)
    _verify_checksum(path, metadata)
    try:
        with warnings.catch_warnings():
            # Keras 3.15 looks for every layer a second time in the model's own lists, and warns about it.
            warnings.filterwarnings("ignore", message="Skipping nested container at '_operations")
            copy.load_weights(path)
    except (ValueError, KeyError, OSError, RuntimeError) as error:
        # Keras names the shapes after its first line.
        text = " ".join((str(error) or type(error).__name__).split())[:_MAX_CHARACTERS]
        raise ModelError(f"weights {path!r} do not fit {model.name!r} as built here: {text}") from error
    if bad := first_not_finite(copy):
        raise ModelError(f"weights {path!r} are not finite: {bad} has NaN or infinite values; use another file")
    loaded = {weight.path: weight for weight in copy.weights}
    skipped = []
    for weight in model.weights:
        if (new_classifier or differs) and weight.path.startswith(CLASSIFIER):
            skipped.append(weight.path)
        else:
            weight.assign(loaded[weight.path].value)
    if differs and not new_classifier:
        warnings.warn(
            f"weights {path!r} have {file_classes} classes: {model.name} loads the backbone and starts a new "
            f"classifier for {classes} classes",
            stacklevel=3,
        )
    return skipped


def first_not_finite(model: keras.Model) -> str | None:
    """Returns the path of the first weight that has a NaN or infinite value; None if there is none.

    Example:
        >>> inputs = keras.Input((2,))
        >>> model = keras.Model(inputs, keras.layers.Dense(1, bias_initializer=lambda *a, **k: [float("nan")])(inputs))
        >>> first_not_finite(model).endswith("/bias")
        True
    """
    for weight in model.weights:
        if weight.dtype.startswith(("float", "bfloat")) and not keras.ops.all(keras.ops.isfinite(weight.value)):
            return weight.path
    return None


def _checksum(file):
    """Returns a hash of the names, shapes and values of all arrays in an open HDF5 file."""
    digest = hashlib.sha256()

    def add(name, item):
        if isinstance(item, h5py.Dataset):
            values = item[()]
            digest.update(f"{name} {item.dtype} {item.shape}".encode())
            digest.update(values.tobytes())

    file.visititems(add)
    return digest.hexdigest()[:32]


def _verify_checksum(path, metadata):
    if "checksum" not in metadata:  # of Keras
        return
    try:
        with h5py.File(path, "r") as file:
            found = _checksum(file)
    except (OSError, RuntimeError, ValueError, KeyError) as error:
        raise ModelError(f"weights {path!r} are damaged ({first_line(error)}); write the file again") from error
    if found != metadata["checksum"]:
        raise ModelError(f"weights {path!r} are damaged: their values have changed; write the file again")


def head_prefix(model: keras.Model) -> str:
    """Returns the prefix of the names of the layers that depend on the task: the classifier, or all after the backbone.

    Example:
        >>> from convzoo import models
        >>> head_prefix(models.create_segmenter("mobilenet_v1_x0_25", 3, (64, 64, 3), filters=8))
        'segment_'
    """
    prefixes = [prefix for suffix, prefix in HEAD_PREFIXES.items() if model.name.endswith(suffix)]
    return prefixes[0] if prefixes else CLASSIFIER


def check_path(path: str) -> None:
    """Raises ModelError unless `path` ends in .weights.h5."""
    if not path.endswith(SUFFIX):
        raise ModelError(f"weights {path!r} do not end in {SUFFIX}; use save_weights or scripts/import_weights.py")


def _num_classes(model: keras.Model) -> int | None:
    """Returns the width of the classifier, or None for a network without one."""
    return next((layer.units for layer in model.layers if layer.name == CLASSIFIER), None)


def _fingerprint(model: keras.Model) -> str:
    """Returns a hash of the weight paths outside the classifier.

    The paths are sorted by layer class only, which is the order in which Keras assigns them from a file.
    """
    paths = [
        (type(layer).__name__, weight.path)
        for layer in model.layers
        for weight in layer.weights
        if not layer.name.startswith(CLASSIFIER)
    ]
    return hashlib.sha256(json.dumps(sorted(paths, key=lambda entry: entry[0])).encode()).hexdigest()[:16]


def _clone(model: keras.Model, num_classes: int | None) -> keras.Model:
    def clone_layer(layer):
        config = layer.get_config()
        if layer.name == CLASSIFIER:
            config["units"] = num_classes
        return type(layer).from_config(config)

    return keras.models.clone_model(model, clone_function=clone_layer)


def _to_tuple(value):
    return tuple(map(_to_tuple, value)) if isinstance(value, list) else value
