"""The known sources of weights, and the way from a checkpoint of one of them to a network of ours."""

from typing import NamedTuple

import keras

from convzoo.models import create_model, info
from convzoo.porting import drconv, seesaw, tf1, timm, torchvision
from convzoo.porting.base import Source
from convzoo.porting.carry import carry
from convzoo.porting.errors import PortingError

SOURCES: dict[str, Source] = {
    "tf1": tf1.SOURCE,
    "timm": timm.SOURCE,
    "torchvision": torchvision.SOURCE,
    "drconv": drconv.SOURCE,
    "seesaw": seesaw.SOURCE,
}

# What create_model takes that is no override.
_RESERVED = ("name", "num_classes", "input_shape", "weights")


class Imported(NamedTuple):
    """A network with a source's weights.

    Attributes:
        model: The network.
        num_classes: Width of its logits.
        overrides: All that it was built with: the source's own, and the user's over them.
        carried: How many arrays of the source it holds.
        left_aside: How many of the source's variables are no weights: counters, optimizer slots, the averages or what
            they average.
        doubt: What the weights do not tell and was assumed, for people; or nothing.
    """

    model: keras.Model
    num_classes: int
    overrides: dict
    carried: int
    left_aside: int
    doubt: str = ""


def import_weights(
    source: str, checkpoint: str, name: str, overrides: dict | None = None, ema: bool = False
) -> Imported:
    """Builds network `name` with the weights of a checkpoint that somebody else's code wrote.

    Args:
        source: A key of `SOURCES`.
        checkpoint: Path of a file, or prefix of a TensorFlow 1 checkpoint.
        name: One of `convzoo.models.list_models()`. The number of classes is that of the checkpoint.
        overrides: Of the network, as `create_model` takes them; over those that the source implies.
        ema: Take the moving averages of the weights.

    Raises:
        PortingError: An unknown source, a network that the source has not, a checkpoint that cannot be read or that
            does not fit the network.
        ModelError: An unknown network or override.
    """
    if source not in SOURCES:
        raise PortingError(f"unknown source {source!r}; known: {', '.join(SOURCES)}")
    origin, family = SOURCES[source], info(name).family
    if family not in origin.namings:
        known = ", ".join(sorted(origin.namings))
        raise PortingError(f"{origin.title} has no weights for {name} (family {family}); it has {known}")
    for key in overrides or {}:
        if key in _RESERVED:
            raise PortingError(f"{key} is no override; the number of classes is read from the checkpoint")
    read, left_aside = origin.read(checkpoint, ema)
    values = origin.divide(read)
    paths = origin.namings[family].paths(values, origin.layout)
    num_classes = _num_classes(checkpoint, name, values, paths, origin)
    overrides = {**origin.implied(name), **(overrides or {})}
    model = create_model(name, num_classes=num_classes, **overrides)
    carry(model, values, paths, origin.layout)
    return Imported(model, num_classes, overrides, len(read), left_aside, origin.doubt(name, overrides))


def _num_classes(checkpoint, name, values, paths, origin):
    for key, path in paths.items():
        if path == "head_dense/kernel" and values[key].ndim:
            return values[key].shape[origin.layout.classes_axis]
    raise PortingError(
        f"{checkpoint!r} has no classifier under the name that {origin.title} gives it in {name}; "
        f"its first variables are {', '.join(sorted(values)[:5])}"
    )
