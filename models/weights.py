"""Weights of a network in a file of Keras's format, with a record of what they belong to."""

import hashlib
import json
import os
import warnings

import h5py
import keras

from convzoo.models.errors import ModelError

SUFFIX = ".weights.h5"
# Layers of the classifier: what another number of classes starts anew.
HEAD = "head_dense"
# The end of a segmenter's name, behind its backbone's.
SEGMENTER = "_segmenter"
_RECORD = "convzoo"
_TOLD = 320  # characters of Keras's own complaint


def save_weights(model: keras.Model, path: str, overrides: dict | None = None, source: str = "") -> None:
    """Writes the weights of `model` to `path`, whole or not at all.

    The file is one that `keras.Model.save_weights` writes, plus a record of the network, so that `create_model` can
    build what the weights fit.

    Args:
        model: A network that `create_model` built.
        path: Ends in .weights.h5.
        overrides: What `create_model` was given besides the name and the number of classes; JSON values.
        source: Where the weights come from, for people.

    Raises:
        ModelError: The path has another ending or cannot be written, the overrides cannot be recorded, or the model is
            a segmenter.
    """
    check_path(path)
    if model.name.endswith(SEGMENTER):
        raise ModelError(
            f"{model.name} is no network by name, which such a file is of; save it with keras.Model.save instead"
        )
    try:
        record = json.dumps(
            {
                "model": model.name,
                "num_classes": _classes(model),
                "overrides": dict(overrides or {}),
                "source": source,
                "body": _body(model),
            }
        )
    except TypeError as error:
        raise ModelError(
            f"the overrides of {model.name} cannot be recorded ({error}); use numbers and texts"
        ) from error
    part = f"{path.removesuffix(SUFFIX)}.{os.getpid()}.part{SUFFIX}"
    try:
        if os.path.dirname(path):
            os.makedirs(os.path.dirname(path), exist_ok=True)
        model.save_weights(part)
        with h5py.File(part, "r+") as file:
            file.attrs[_RECORD] = record
        os.replace(part, path)
    except OSError as error:
        raise ModelError(f"cannot write {path!r} ({str(error).splitlines()[0]}); choose another path") from error
    finally:
        if os.path.exists(part):
            os.remove(part)


def read_record(path: str, name: str | None = None) -> dict:
    """What `save_weights` recorded of the weights at `path`; {} for a file of Keras's own making.

    The record is {"model", "num_classes", "overrides", "source", "body"}, the last of them a fingerprint of the layers.

    Args:
        path: A `.weights.h5` file.
        name: The network that they must be of, where they tell; None for any.

    Raises:
        ModelError: There is no such file, it is not an HDF5 file, or it is of another network.
    """
    check_path(path)
    if not os.path.isfile(path):
        advice = "copy them to this machine first" if "://" in path else "check the path"
        raise ModelError(f"weights {path!r} are not there; {advice}")
    try:
        with h5py.File(path, "r") as file:
            record = json.loads(file.attrs.get(_RECORD, "{}"))
    except OSError as error:
        raise ModelError(f"weights {path!r} cannot be read ({str(error).splitlines()[0]}); make them anew") from error
    if "model" not in record:
        return {}
    if name is not None and record["model"] != name:
        raise ModelError(f"weights {path!r} are of {record['model']!r}, not of {name!r}; create that one")
    record["overrides"] = {key: _tuples(value) for key, value in record.get("overrides", {}).items()}
    return record


def load_weights(model: keras.Model, path: str, new_head: bool = False) -> list[str]:
    """Gives `model` the weights at `path`, all of them or none.

    Args:
        model: The network, as `create_model` builds it with the overrides of the file's record.
        path: A file of `save_weights`, or of `keras.Model.save_weights` for the same network.
        new_head: Whether to leave the classifier as it is. It is left so in any case, with a warning, where the file
            has another number of classes.

    Returns:
        Paths of the weights that were left as they were: those of the classifier, or none.

    Raises:
        ModelError: The file is of another network, or cannot be read.
    """
    record = read_record(path, model.name)
    if record.get("body", body := _body(model)) != body:
        # Keras takes what a smaller network needs from the file of a larger one, and says nothing.
        raise ModelError(
            f"weights {path!r} have other layers than {model.name!r} as built here; create it with the overrides of "
            f"the file, {record['overrides']}"
        )
    classes, other = _classes(model), record.get("num_classes")
    differs = None not in (classes, other) and classes != other
    # Into a copy first: a file that does not fit must not leave the network half loaded.
    copy = _copy(model, other if differs else classes)
    try:
        with warnings.catch_warnings():
            # Keras 3.15 looks for each layer a second time in the model's own lists, and warns that it is not there.
            warnings.filterwarnings("ignore", message="Skipping nested container at '_operations")
            copy.load_weights(path)
    except (ValueError, KeyError, OSError) as error:
        # The shapes that differ stand behind Keras's first line.
        line = " ".join((str(error) or type(error).__name__).split())[:_TOLD]
        raise ModelError(f"weights {path!r} are not of {model.name!r} as built here: {line}") from error
    loaded = {weight.path: weight for weight in copy.weights}
    left = []
    for weight in model.weights:
        if (new_head or differs) and weight.path.startswith(HEAD):
            left.append(weight.path)
        else:
            weight.assign(loaded[weight.path].value)
    if differs and not new_head:
        warnings.warn(
            f"weights {path!r} are for {other} classes: {model.name} keeps their body and starts a new classifier for "
            f"{classes} classes",
            stacklevel=3,
        )
    return left


def check_path(path: str) -> None:
    """Raises ModelError unless `path` ends as a file of weights does."""
    if not path.endswith(SUFFIX):
        raise ModelError(f"weights {path!r} do not end in {SUFFIX}; give a file of save_weights or import_weights.py")


def _classes(model: keras.Model) -> int | None:
    """Width of the classifier, or None for a network without one."""
    heads = [layer for layer in model.layers if layer.name == HEAD]
    return heads[0].units if heads else None


def _body(model: keras.Model) -> str:
    """Fingerprint of the weights outside the classifier, in the order by which Keras finds them in a file: that of the
    layers of each class."""
    paths = [
        (type(layer).__name__, weight.path)
        for layer in model.layers
        for weight in layer.weights
        if not layer.name.startswith(HEAD)
    ]
    return hashlib.sha256(json.dumps(sorted(paths, key=lambda entry: entry[0])).encode()).hexdigest()[:16]


def _copy(model: keras.Model, classes: int | None) -> keras.Model:
    def clone(layer):
        config = layer.get_config()
        if layer.name == HEAD:
            config["units"] = classes
        return type(layer).from_config(config)

    return keras.models.clone_model(model, clone_function=clone)


def _tuples(value):
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
