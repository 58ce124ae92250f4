"""Import of another implementation's checkpoint into a network of ours."""

from typing import NamedTuple

import keras

from convzoo.errors import ModelError
from convzoo.models import create_model, info
from convzoo.models.weights import CLASSIFIER
from convzoo.porting import drconv, keras_applications, lukemelas, seesaw, tf1, timm, torchvision
from convzoo.porting.assignment import assign_weights
from convzoo.porting.weight_source import WeightSource

SOURCES: dict[str, WeightSource] = {
    "tf1": tf1.SOURCE,
    "timm": timm.SOURCE,
    "torchvision": torchvision.SOURCE,
    "lukemelas": lukemelas.SOURCE,
    "keras": keras_applications.SOURCE,
    "drconv": drconv.SOURCE,
    "seesaw": seesaw.SOURCE,
}


class Imported(NamedTuple):
    """A network with imported weights.

    Attributes:
        model: The network.
        num_classes: Width of its logits.
        overrides: All overrides of the network: those that the source requires, updated by the caller's.
        num_assigned: Number of the source's variables that the network holds.
        num_ignored: Number of the source's variables that are not weights: counters, optimizer slots, and the moving
            averages or the weights that they replace.
        assumption: What the import assumes because the file does not contain it, or "".
        preprocessing: "mean" and "std" of the images on the scale 0 to 255, for `save_weights`; None for those of
            `convzoo.models.info(NAME)`.
    """

    model: keras.Model
    num_classes: int
    overrides: dict
    num_assigned: int
    num_ignored: int
    assumption: str = ""
    preprocessing: dict | None = None


def import_weights(
    source: str, checkpoint: str, name: str, overrides: dict | None = None, ema: bool = False
) -> Imported:
    """Builds network `name` with the weights of another implementation's checkpoint.

    Args:
        source: A key of `SOURCES`.
        checkpoint: Path of a file, or prefix of a TensorFlow 1 checkpoint.
        name: One of `convzoo.models.list_models()`. The number of classes is that of the checkpoint.
        overrides: Overrides as for `create_model`; they take precedence over those that the source requires.
        ema: Whether to use the moving averages of the weights.

    Raises:
        ModelError: The source, network or override is unknown, the source does not have the network, or the checkpoint
            cannot be read or does not fit the network.

    Example:
        >>> import numpy as np
        >>> from convzoo import porting
        >>> np.savez("resnet18.npz", **{"conv1.weight": np.ones((64, 3, 7, 7), "float32")})
        >>> porting.import_weights("timm", "resnet18.npz", "resnet18")  # a real file has all weights
        Traceback (most recent call last):
        convzoo.errors.ModelError: 'resnet18.npz' has no classifier with the name that timm uses in resnet18; ...
    """
    if source not in SOURCES:
        raise ModelError(f"unknown source {source!r}; known: {', '.join(SOURCES)}")
    origin, family = SOURCES[source], info(name).family
    if family not in origin.layer_names:
        known = ", ".join(sorted(origin.layer_names))
        raise ModelError(f"{origin.title} has no weights for {name} of family {family}; it has {known}")
    for key in ("name", "num_classes", "input_shape", "weights"):
        if key in (overrides or {}):
            raise ModelError(f"{key} cannot be overridden; the number of classes is that of the checkpoint")
    variables, num_ignored = origin.read(checkpoint, ema)
    values = origin.split_variables(variables)
    paths = origin.layer_names[family].variable_paths(values, origin.framework)
    classifier = next((key for key, path in paths.items() if path == f"{CLASSIFIER}/kernel" and values[key].ndim), None)
    if classifier is None:
        raise ModelError(
            f"{checkpoint!r} has no classifier with the name that {origin.title} uses in {name}; its first variables "
            f"are {', '.join(sorted(values)[:5])}"
        )
    num_classes = values[classifier].shape[origin.framework.class_axis]
    overrides = {**origin.required_overrides(name), **(overrides or {})}
    model = create_model(name, num_classes=num_classes, **overrides)
    assign_weights(model, values, paths, origin.framework)
    return Imported(
        model,
        num_classes,
        overrides,
        len(variables),
        num_ignored,
        origin.assumption(name, overrides),
        origin.preprocessing(name),
    )
