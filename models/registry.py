"""Registry of networks: register, list, look up and build them by name."""

import dataclasses
import difflib
import fnmatch
import inspect
import math
import numbers
import os
from collections.abc import Callable
from typing import Any

import keras

from convzoo.errors import ModelError, first_line
from convzoo.models.detector_info import detector_info, list_detectors
from convzoo.models.info import ModelInfo
from convzoo.models.operators import Operator, Static, change, operators_with
from convzoo.models.weights import load_weights, read_metadata


@dataclasses.dataclass(frozen=True)
class _Entry:
    builder: Callable[..., keras.Model]
    defaults: dict
    info: ModelInfo


_ENTRIES: dict[str, _Entry] = {}
# Lowest and highest values of numbers among the builders' arguments.
_RANGES = {
    "bn_epsilon": (1e-12, 1.0),
    "bn_momentum": (0.0, 0.99999),
    "depth_coefficient": (0.01, 100.0),
    "dropout_rate": (0.0, 0.999),
    "head_filters": (1, 65536),
    "se_ratio": (0.0, 16.0),
    "stem_filters": (1, 65536),
    "stem_strides": (1, 2),
    "survival_prob": (0.001, 1.0),
    "width_coefficient": (0.01, 100.0),
}
_LISTED = 20  # names in a message


def register_model(builder: Callable[..., keras.Model], info: ModelInfo, **defaults: Any) -> None:
    """Registers `info.name` as `builder` called with `defaults`.

    Args:
        builder: A function of keyword arguments, `num_classes`, `input_shape`, `operator` and `name` among them, that
            returns a `keras.Model`. Users can override its other arguments.
        info: Facts about the network.
        **defaults: Arguments of `builder` that define this network, for example widths, blocks and the operator.

    Raises:
        ModelError: The name is registered already, or a default is not an argument of `builder`.

    Example:
        >>> from convzoo import models
        >>> from convzoo.models.resnet import resnet
        >>> info = models.ModelInfo("resnet10", "resnet", "my paper", params=5_418_792, madds=889_229_312)
        >>> models.register_model(resnet, info, repeats=(1, 1, 1, 1), bottleneck=False)
        >>> models.list_models("resnet1?")
        ['resnet10', 'resnet18']
    """
    if info.name in _ENTRIES:
        raise ModelError(f"a network named {info.name!r} is registered already; choose another name")
    _check_overrides(info.name, builder, defaults)
    _ENTRIES[info.name] = _Entry(builder, defaults, info)


def list_models(pattern: str = "*") -> list[str]:
    """Returns the sorted names of the registered networks that match a shell pattern.

    Example:
        >>> from convzoo import models
        >>> models.list_models("mobilenet_v2_*conv*")
        ['mobilenet_v2_condconv_x1_0', 'mobilenet_v2_drconv_x1_0']
    """
    return sorted(fnmatch.filter(_ENTRIES, pattern))


def info(name: str) -> ModelInfo:
    """Returns the facts about network `name`.

    Raises:
        ModelError: There is no such network; the message names the nearest ones.

    Example:
        >>> from convzoo import models
        >>> models.info("resnet50").params
        25557032
    """
    return _entry(name).info


def create_model(
    name: str,
    num_classes: int | None = None,
    input_shape: tuple[int | None, int | None, int] | None = None,
    weights: str | os.PathLike | None = None,
    operator: Operator | dict | None = None,
    **overrides: Any,
) -> keras.Model:
    """Builds a registered network.

    Args:
        name: One of `list_models()`.
        num_classes: Width of the logits; by default that of `weights`, else the published one. If `weights` have a
            different number of classes, the classifier is initialized randomly, with a warning.
        input_shape: Height, width and channels of one image; by default the published size and 3 channels. Height
            and width may be None.
        weights: A `.weights.h5` file of this network, from `save_weights`, scripts/import_weights.py or
            `keras.Model.save_weights`; None for random initialization. The overrides in the file's metadata apply
            unless `overrides` contains them.
        operator: What replaces the network's convolutions, for example `CondConv(num_experts=4)`; `Static()` for
            nothing. None: the operator recorded in `weights`, else the network's own. A dict changes settings of that
            one, for example `{"num_experts": 4}`; with "name" it can choose another class.
        **overrides: Keywords of the family's builder, for example `stem_strides=1`; see `convzoo.models.builder` for
            the common ones. `include_top=False` returns the last feature map, `features=True` a dict of feature maps.

    Returns:
        A `keras.Model` from float images [batch, height, width, channels], normalized by `info(name).preprocessing`,
        to float32 logits [batch, num_classes].

    Raises:
        ModelError: The name, an override or a setting of the operator is unknown (the message names the nearest ones),
            the builder rejects an override, the operator finds nothing to replace in this network, or the weights
            belong to another network.

    Example:
        >>> from convzoo import models
        >>> models.create_model("mobilenet_v1_x0_25", num_classes=10, input_shape=(32, 32, 3)).output_shape
        (None, 10)
        >>> model = models.create_model("resnet18", 10, (32, 32, 3), operator=models.Lean("9-point", group_size=8))
        >>> model = models.create_model("efficientnet_condconv_b0_8e", 10, (32, 32, 3), operator={"num_experts": 4})
        >>> backbone = models.create_model("mobilenet_v1_condconv_x0_25", features=True)
        >>> backbone.output["reduction_5"].shape
        (None, 7, 7, 256)
    """
    entry = _entry(name)
    _check_overrides(name, entry.builder, overrides)
    try:
        weights = None if weights is None else os.fspath(weights)
        shape = None if input_shape is None else tuple(input_shape)
    except TypeError as error:
        raise ModelError(f"weights={weights!r} or input_shape={input_shape!r} has a wrong type: {error}") from error
    metadata = {} if weights is None else read_metadata(weights, name)
    if num_classes is None:
        num_classes = metadata.get("num_classes") or entry.info.num_classes
    if not isinstance(num_classes, numbers.Integral) or num_classes < 1:
        raise ModelError(f"num_classes must be an integer of at least 1, not {num_classes!r}")
    num_classes = int(num_classes)
    if shape is None:
        shape = (entry.info.input_size, entry.info.input_size, 3)
    given = {} if operator is None else {"operator": operator}
    arguments = _arguments(name, metadata, operator, overrides)
    try:
        model = entry.builder(num_classes=num_classes, input_shape=shape, name=name, **arguments)
    except ModelError:
        raise
    except (TypeError, ValueError, ZeroDivisionError) as error:  # a layer rejects an argument
        settings = "".join(f", {key}={value!r}" for key, value in {**overrides, **given}.items())
        raise ModelError(f"{name} cannot be built with input_shape={shape}{settings}: {first_line(error)}") from error
    if weights is not None:
        load_weights(model, weights)
    return model


def builder_arguments(
    name: str, weights: str | os.PathLike | None = None, operator: Operator | dict | None = None, **overrides: Any
) -> dict[str, Any]:
    """Returns the keywords with which `create_model` calls the builder, but for `num_classes`, `input_shape`, `name`.

    Raises:
        ModelError: As `create_model`.

    Example:
        >>> builder_arguments("mobilenet_v1_x0_5", bn_momentum=0.99)
        {'width_coefficient': 0.5, 'bn_momentum': 0.99, 'operator': Static(first_block=None)}
    """
    _check_overrides(name, _entry(name).builder, overrides)
    metadata = {} if weights is None else read_metadata(os.fspath(weights), name)
    return _arguments(name, metadata, operator, overrides)


def _arguments(name, metadata, operator, overrides):
    """Returns the keywords of the builder: the network's own, those recorded in a weights file, and `overrides`."""
    entry, recorded = _entry(name), dict(metadata.get("overrides", {}))
    own = change(entry.defaults.get("operator") or Static(), recorded.pop("operator", None))
    for key, value in {**recorded, **overrides}.items():
        _check_value(name, key, value)
    return {**entry.defaults, **recorded, **overrides, "operator": change(own, operator)}


def _entry(name: str) -> _Entry:
    if not isinstance(name, str) or name not in _ENTRIES:
        if not isinstance(name, str):
            raise ModelError(f"a network is called by its name, see list_models(), not {name!r}")
        if name in list_detectors():
            raise ModelError(
                f"{name} is a detector; use create_detector, or in a config config.task='detection' with its backbone "
                f"{detector_info(name).backbone} and overrides {detector_info(name).settings}"
            )
        raise ModelError(f"unknown network {name!r}; {_nearest(name, [*_ENTRIES, *list_detectors()])}")
    return _ENTRIES[name]


def _check_overrides(name: str, builder: Callable, overrides: dict) -> None:
    """Raises ModelError for an override that is not an argument of `builder`."""
    known = [key for key in inspect.signature(builder).parameters if key not in ("num_classes", "input_shape", "name")]
    for key in overrides:
        if key not in known:
            operators = operators_with(key)
            advice = (
                f"it is a setting of {' or '.join(operators)}: use operator={{'name': {operators[0]!r}, {key!r}: ...}}"
                if operators
                else _nearest(key, known)
            )
            raise ModelError(f"{name} has no override {key!r}; {advice}")


def _check_value(name: str, key: str, value) -> None:
    """Raises ModelError for a number that is not finite or out of the range of the argument `key`."""
    if isinstance(value, (list, tuple)):
        for item in value:
            _check_value(name, key, item)
    if not isinstance(value, numbers.Real) or isinstance(value, bool):
        return
    lowest, highest = _RANGES.get(key, (-math.inf, math.inf))
    if not (math.isfinite(value) and lowest <= value <= highest):
        allowed = "a finite number" if key not in _RANGES else f"a number from {lowest:g} to {highest:g}"
        raise ModelError(f"{key}={value!r} of {name} is invalid; use {allowed}")


def _nearest(word: str, known: list[str]) -> str:
    near = difflib.get_close_matches(word, known, n=3, cutoff=0.5)
    if near or len(known) > _LISTED:
        return f"nearest: {', '.join(near or sorted(known)[:3])}; {len(known)} are known"
    return f"known: {', '.join(sorted(known))}"
