"""Lean convolutions in a network (LeanConvNets, arXiv 1910.13157): their settings, and other networks made lean."""

import dataclasses
import fnmatch

import keras

from convzoo.layers import LeanConv2D
from convzoo.layers.lean_conv2d import STENCILS, count_groups
from convzoo.models.errors import ModelError
from convzoo.models.graph import check_flat

# The paper's "three-point separable" stencil, as we read it: a line along one axis, then one along the other.
ALTERNATING = "3-point-alternating"
_ALTERNATELY = ("3-point-horizontal", "3-point-vertical")
NAMES = (*STENCILS, ALTERNATING)


@dataclasses.dataclass(frozen=True)
class Stencil:
    """What one lean convolution is made with."""

    stencil: str
    group_size: int | None

    def conv(self, **arguments) -> LeanConv2D:
        """The layer; arguments as `keras.layers.Conv2D` takes them, with a kernel size of 3."""
        if arguments.pop("kernel_size") != 3:
            raise ModelError(f"{arguments['name']} cannot be lean: its kernel size is not 3")
        return LeanConv2D(stencil=self.stencil, group_size=self.group_size, **arguments)


class Stencils:
    """Gives each lean convolution of a network its stencil, in the order of the network.

    Args:
        stencil: "9-point", "5-point", "3-point-horizontal", "3-point-vertical", or "3-point-alternating" for horizontal
            and vertical lines in turn; None for a network of plain convolutions.
        group_size: Channels of a group, 1 for a depthwise stencil; None for all channels.

    Raises:
        ModelError: An unknown stencil.
    """

    def __init__(self, stencil: str | None, group_size: int | None):
        if stencil not in (None, *NAMES):
            raise ModelError(f"stencil {stencil!r} is not known; choose one of {', '.join(NAMES)}")
        if group_size is not None and (not isinstance(group_size, int) or group_size < 1):
            raise ModelError(f"group_size must be a whole number of at least 1, or None for all, not {group_size!r}")
        self._stencil, self._group_size, self._made = stencil, group_size, 0

    def __call__(self) -> Stencil | None:
        """The next convolution's; None in a plain network."""
        if self._stencil != ALTERNATING:
            return None if self._stencil is None else Stencil(self._stencil, self._group_size)
        self._made += 1
        return Stencil(_ALTERNATELY[(self._made - 1) % 2], self._group_size)


# Of a Conv2D's config, what a lean layer has not.
_LEFT_OUT = ("kernel_size", "groups")


def to_lean(
    model: keras.Model,
    stencil: str = "5-point",
    group_size: int | None = 1,
    keep: tuple[str, ...] = (),
    fit_weights: bool = False,
) -> keras.Model:
    """A network like `model` with lean convolutions in the place of its 3x3 ones.

    Layers keep their names, and lean ones take over strides, padding, dilation, bias, activation, initialisers,
    regularisers and constraints. The first convolution, the stem, stays as it is; so do grouped ones, and those between
    widths that groups of this size do not divide.

    Args:
        model: A built functional or sequential `keras.Model`, ours or not, without models among its layers.
        stencil, group_size: See `Stencils`; the order of "3-point-alternating" is that of `model.layers`.
        keep: Shell patterns of layers that stay as they are.
        fit_weights: True starts lean convolutions from the lean operators nearest to the trained ones, by least
            squares, and all other layers from their weights. By default all weights are new.

    Returns:
        A new model; `model` is left alone.

    Raises:
        ModelError: An unknown stencil, a pattern that no layer matches, a model of another kind, or a network without
            any convolution to change.
    """
    if stencil is None:
        raise ModelError(f"stencil None is not known; choose one of {', '.join(NAMES)}")
    stencils = Stencils(stencil, group_size)
    check_flat(model)
    stem = next((layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)), None)
    for pattern in keep:
        if not any(fnmatch.fnmatch(layer.name, pattern) for layer in model.layers):
            raise ModelError(f"keep {pattern!r} matches no layer of {model.name}")
    pairs = []

    def clone(layer):
        kept = layer is stem or any(fnmatch.fnmatch(layer.name, pattern) for pattern in keep)
        new = None if kept or not _fits(layer, group_size) else _lean(layer, stencils())
        pairs.append((layer, new or layer.__class__.from_config(layer.get_config())))
        return pairs[-1][1]

    inputs = None
    if not isinstance(model, keras.Sequential):  # a clone's own inputs would lose their names
        inputs = keras.tree.map_structure(
            lambda x: keras.Input(batch_shape=x.shape, dtype=x.dtype, name=x.name), model.input
        )
    result = keras.models.clone_model(model, input_tensors=inputs, clone_function=clone)
    if not any(isinstance(new, LeanConv2D) and not isinstance(old, LeanConv2D) for old, new in pairs):
        raise ModelError(f"{model.name} has no 3x3 convolution to make lean with groups of {group_size}")
    for old, new in pairs if fit_weights else ():
        if isinstance(new, LeanConv2D) and not isinstance(old, LeanConv2D):
            new.fit_dense(old.kernel)
            if old.use_bias:
                new.bias.assign(old.bias)
        else:
            new.set_weights(old.get_weights())
    return result


def _fits(layer, group_size) -> bool:
    """Whether a layer is a 3x3 convolution that can be lean."""
    plain = type(layer) is keras.layers.Conv2D and layer.kernel_size == (3, 3) and layer.groups == 1
    return plain and count_groups(layer.kernel.shape[2], layer.filters, group_size) is not None


def _lean(layer: keras.layers.Conv2D, stencil: Stencil) -> LeanConv2D:
    arguments = {key: value for key, value in layer.get_config().items() if key not in _LEFT_OUT}
    return LeanConv2D.from_config({**arguments, **dataclasses.asdict(stencil)})
