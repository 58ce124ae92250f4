"""Networks by name: register, list, look up and build them."""

import dataclasses
import difflib
import fnmatch
import inspect
import numbers
import os
from collections.abc import Callable

import keras

from convzoo.layers import DRConv2D, ExpertRouting, LeanConv2D
from convzoo.models import weights as files
from convzoo.models.errors import ModelError
from convzoo.models.info import ModelInfo


@dataclasses.dataclass(frozen=True)
class _Entry:
    builder: Callable[..., keras.Model]
    defaults: dict
    info: ModelInfo


_ENTRIES: dict[str, _Entry] = {}
# Overrides that need a kind of layer, and the overrides that bring it.
_NEED = {
    **dict.fromkeys(
        ("num_experts", "routing", "expert_dropout"),
        (ExpertRouting, "conditional layer", "first_conditional_block"),
    ),
    **dict.fromkeys(("bank_size", "generator"), (DRConv2D, "region-aware layer", "regions")),
    "group_size": (LeanConv2D, "lean layer", "stencil"),
}


def register_model(builder: Callable[..., keras.Model], info: ModelInfo, **defaults) -> None:
    """Registers `info.name` as `builder` called with `defaults`.

    Args:
        builder: A function of keyword arguments alone, `num_classes` and `input_shape` among them, that returns a
            `keras.Model`. Its other keywords are what users may override.
        info: The record of the network.
        **defaults: What makes this network of the family: widths, blocks, experts.

    Raises:
        ModelError: The name is taken, or a default is no argument of `builder`.
    """
    if info.name in _ENTRIES:
        raise ModelError(f"a network named {info.name!r} is registered already; choose another name")
    _check_overrides(info.name, builder, defaults)
    _ENTRIES[info.name] = _Entry(builder, defaults, info)


def list_models(pattern: str = "*") -> list[str]:
    """Names of the registered networks that match a shell wildcard such as "*condconv*", sorted."""
    return sorted(fnmatch.filter(_ENTRIES, pattern))


def info(name: str) -> ModelInfo:
    """The record of network `name`. Raises ModelError, naming the nearest networks, where there is none."""
    return _entry(name).info


def create_model(
    name: str,
    num_classes: int | None = None,
    input_shape: tuple[int | None, int | None, int] | None = None,
    weights: str | os.PathLike | None = None,
    **overrides,
) -> keras.Model:
    """Builds a registered network.

    Args:
        name: One of `list_models()`.
        num_classes: Width of the logits; by default that of the weights, or the published one. With weights of another
            number of classes the classifier starts anew, and a warning says so.
        input_shape: Height, width and channels of one picture; by default the published size and 3 channels. Height
            and width may be None where the size is not known.
        weights: A `.weights.h5` file for this network, written by `save_weights` or scripts/import_weights.py (which
            record the overrides that the weights need: they apply here too, unless given otherwise), or by Keras's
            `save_weights`; None for the network's own random initialisation.
        **overrides: Any keyword of the family's builder (`num_experts=4`); `include_top=False` ends the network at
            its last feature map, `features=True` makes it return a dict of named feature maps.

    Returns:
        A `keras.Model` from float images [batch, height, width, channels], normalised as `info(name).preprocessing`
        says, to float32 logits [batch, num_classes].

    Raises:
        ModelError: Unknown name or override (the nearest known ones are named), an override that cannot be, or weights
            of another network.
    """
    entry = _entry(name)
    _check_overrides(name, entry.builder, overrides)
    weights = None if weights is None else os.fspath(weights)
    record = {} if weights is None else files.read_record(weights, name)
    if num_classes is None:
        num_classes = record.get("num_classes") or entry.info.num_classes
    if not isinstance(num_classes, numbers.Integral) or num_classes < 1:
        raise ModelError(f"num_classes must be a whole number of at least 1, not {num_classes!r}")
    if input_shape is None:
        input_shape = (entry.info.input_size, entry.info.input_size, 3)
    arguments = {**entry.defaults, **record.get("overrides", {}), **overrides}
    try:
        model = entry.builder(num_classes=num_classes, input_shape=tuple(input_shape), name=name, **arguments)
    except ModelError:
        raise
    except (TypeError, ValueError, ZeroDivisionError) as error:  # of a layer deep within, where a value cannot be
        line = (str(error).strip() or type(error).__name__).splitlines()[0]
        given = "".join(f", {key}={value!r}" for key, value in overrides.items())
        raise ModelError(f"{name} cannot be built with input_shape={tuple(input_shape)}{given}: {line}") from error
    _check_effect(model, overrides)
    if weights is not None:
        files.load_weights(model, weights)
    return model


def _entry(name: str) -> _Entry:
    if name not in _ENTRIES:
        raise ModelError(f"unknown network {name!r}; {_nearest(name, list(_ENTRIES))}")
    return _ENTRIES[name]


def _check_overrides(name: str, builder: Callable, overrides: dict) -> None:
    known = [key for key in inspect.signature(builder).parameters if key not in ("num_classes", "input_shape", "name")]
    for key in overrides:
        if key not in known:
            raise ModelError(f"{name} has no override {key!r}; {_nearest(key, known)}")


def _check_effect(model: keras.Model, overrides: dict) -> None:
    """Refuses overrides that do nothing, unless what they need was switched off by another one, as an ablation does."""
    for key in overrides:
        kind, what, remedy = _NEED.get(key, (keras.layers.Layer, "", ""))
        if remedy not in overrides and not any(isinstance(layer, kind) for layer in model.layers):
            raise ModelError(f"{key} would do nothing: {model.name} has no {what}; set {remedy} too")


def _nearest(word: str, known: list[str]) -> str:
    near = difflib.get_close_matches(word, known, n=3, cutoff=0.5)
    return f"nearest: {', '.join(near)}" if near else f"known: {', '.join(sorted(known))}"
