"""Lean convolutions in a network (LeanConvNets, arXiv 1910.13157), and conversion of any network to them."""

import dataclasses
import fnmatch

import keras

from convzoo.errors import ModelError
from convzoo.layers import LeanConv2D
from convzoo.layers.lean_conv2d import STENCILS, count_groups
from convzoo.models.graph import check_flat, clone_with

# The paper's "three-point separable" stencil in our reading: a line along one axis, then a line along the other.
ALTERNATING = "3-point-alternating"
_ALTERNATING_STENCILS = ("3-point-horizontal", "3-point-vertical")
NAMES = (*STENCILS, ALTERNATING)


@dataclasses.dataclass(frozen=True)
class Stencil:
    """Arguments of one `convzoo.layers.LeanConv2D`."""

    stencil: str
    group_size: int | None

    def conv(self, **arguments) -> LeanConv2D:
        """Returns the layer; arguments as for `keras.layers.Conv2D`, with a kernel size of 3."""
        if arguments.pop("kernel_size") != 3:
            raise ModelError(f"{arguments['name']} cannot be lean: its kernel size is not 3")
        return LeanConv2D(stencil=self.stencil, group_size=self.group_size, **arguments)


class StencilSequence:
    """Returns the stencil of each lean convolution, called once per convolution in network order.

    Args:
        stencil: "9-point", "5-point", "3-point-horizontal", "3-point-vertical", or "3-point-alternating" for horizontal
            and vertical lines in turn; None for dense convolutions.
        group_size: Channels per group, 1 for a depthwise stencil; None for one group of all channels.

    Raises:
        ModelError: The stencil is unknown or the group size is not a positive integer.

    Example:
        >>> stencils = StencilSequence("3-point-alternating", group_size=1)
        >>> stencils().stencil, stencils().stencil
        ('3-point-horizontal', '3-point-vertical')
    """

    def __init__(self, stencil: str | None, group_size: int | None):
        if stencil not in (None, *NAMES):
            raise ModelError(f"stencil {stencil!r} is unknown; choose one of {', '.join(NAMES)}")
        if group_size is not None and (not isinstance(group_size, int) or group_size < 1):
            raise ModelError(
                f"group_size must be an integer of at least 1, or None for all channels, not {group_size!r}"
            )
        self._stencil, self._group_size, self._num_calls = stencil, group_size, 0

    def __call__(self) -> Stencil | None:
        """Returns the next convolution's stencil; None for a dense convolution."""
        if self._stencil != ALTERNATING:
            return None if self._stencil is None else Stencil(self._stencil, self._group_size)
        self._num_calls += 1
        return Stencil(_ALTERNATING_STENCILS[(self._num_calls - 1) % 2], self._group_size)


def to_lean(
    model: keras.Model,
    stencil: str = "5-point",
    group_size: int | None = 1,
    keep: tuple[str, ...] = (),
    fit_weights: bool = False,
) -> keras.Model:
    """Replaces the 3x3 convolutions of a model by lean convolutions.

    Lean layers keep the name, strides, padding, dilation, bias, activation, initializers, regularizers and constraints
    of the layers that they replace. Not replaced are the first convolution (the stem), grouped convolutions, and those
    whose channels `group_size` does not divide.

    Args:
        model: A built functional or sequential `keras.Model`, ours or not, without nested models.
        stencil, group_size: See `StencilSequence`; "3-point-alternating" follows the order of `model.layers`.
        keep: Shell patterns of layer names that are not replaced.
        fit_weights: True initializes lean layers with the least-squares fit to the trained kernels, and copies the
            weights of all other layers. False initializes all weights randomly.

    Returns:
        A new model; `model` is unchanged.

    Raises:
        ModelError: The stencil is unknown, a pattern matches no layer, the model has no graph or contains models, or it
            has no convolution to replace.

    Example:
        >>> from convzoo import models
        >>> model = models.create_model("resnet18", 10, (32, 32, 3), width_coefficient=0.125)
        >>> lean = models.to_lean(model, "5-point", group_size=8, fit_weights=True)
        >>> models.count(model).params, models.count(lean).params
        (177362, 40146)
    """
    if stencil is None:
        raise ModelError(f"stencil None is unknown; choose one of {', '.join(NAMES)}")
    stencils = StencilSequence(stencil, group_size)
    check_flat(model)
    stem = next((layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)), None)
    for pattern in keep:
        if not any(fnmatch.fnmatch(layer.name, pattern) for layer in model.layers):
            raise ModelError(f"keep {pattern!r} matches no layer of {model.name}")
    replaced, copied = [], []

    def clone_layer(layer):
        kept = layer is stem or any(fnmatch.fnmatch(layer.name, pattern) for pattern in keep)
        if not kept and _is_replaceable(layer, group_size):
            replaced.append((layer, _lean_layer(layer, stencils())))
            return replaced[-1][1]
        copied.append((layer, layer.__class__.from_config(layer.get_config())))
        return copied[-1][1]

    result = clone_with(model, clone_layer)
    if not replaced:
        raise ModelError(f"{model.name} has no 3x3 convolution that can be lean with group_size={group_size}")
    if fit_weights:
        for dense, lean in replaced:
            lean.fit_dense(dense.kernel)
            if dense.use_bias:
                lean.bias.assign(dense.bias)
        for layer, copy in copied:
            copy.set_weights(layer.get_weights())
    return result


def _is_replaceable(layer, group_size) -> bool:
    """Returns True for an ungrouped 3x3 convolution whose channels `group_size` divides."""
    is_dense_3x3 = type(layer) is keras.layers.Conv2D and layer.kernel_size == (3, 3) and layer.groups == 1
    return is_dense_3x3 and count_groups(layer.kernel.shape[2], layer.filters, group_size) is not None


def _lean_layer(layer: keras.layers.Conv2D, stencil: Stencil) -> LeanConv2D:
    # LeanConv2D has neither of these two arguments.
    config = {key: value for key, value in layer.get_config().items() if key not in ("kernel_size", "groups")}
    return LeanConv2D.from_config({**config, **dataclasses.asdict(stencil)})
