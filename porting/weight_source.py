"""Description of another implementation whose weights can be imported: its files, frameworks and layer names."""

import dataclasses
import re
from collections.abc import Callable, Iterable, Mapping

import numpy as np

from convzoo.porting.frameworks import NORM, OTHER, Framework


def conv_bn(conv: str, norm: str, ours: str) -> dict[str, str]:
    """Maps a convolution and its normalization to our layers `{ours}_conv` and `{ours}_bn`.

    Example:
        >>> conv_bn("conv1", "bn1", "stem")
        {'conv1': 'stem_conv', 'bn1': 'stem_bn'}
    """
    return {conv: f"{ours}_conv", norm: f"{ours}_bn"}


@dataclasses.dataclass(frozen=True)
class LayerNameMap:
    """Map from an implementation's layer names to ours, for one family of networks.

    Attributes:
        layers: Their layer -> ours, outside the blocks.
        block_pattern: Pattern that matches the start of their layer names inside blocks. Its groups are integers; the
            blocks sorted by them are our block0, block1, ... over the whole network.
        block_layers: (marker, {their layer in the block: our layer in the block}) per kind of block. A block is of the
            first kind whose marker is one of its layers; the marker "" matches every block.

    An entry such as "expand_conv/routing_{}" maps a layer to some variables of our layer; "{}" is our variable name.

    Example:
        >>> from convzoo.porting.frameworks import TORCH
        >>> names = LayerNameMap({"fc": "head_dense"}, r"layer(\\d+)", (("", conv_bn("conv", "bn", "project")),))
        >>> names.variable_paths(["fc.weight", "layer3.bn.bias"], TORCH)
        {'fc.weight': 'head_dense/kernel', 'layer3.bn.bias': 'block0_project_bn/beta'}
    """

    layers: Mapping[str, str]
    block_pattern: str
    block_layers: tuple[tuple[str, Mapping[str, str]], ...]

    def variable_paths(self, names: Iterable[str], framework: Framework) -> dict[str, str]:
        """Returns {their "layer.variable": our "layer/variable"} for the names that have a counterpart."""
        split = {name: name.rpartition(".")[::2] for name in names}
        positions = {layer: self._split_block(layer) for layer, _ in split.values() if layer not in self.layers}
        blocks = {}
        for number, layer in filter(None, positions.values()):
            blocks.setdefault(number, set()).add(layer)
        targets = dict(self.layers)
        for index, number in enumerate(sorted(blocks)):
            block_layers = self._layers_of(blocks[number])
            for layer, position in positions.items():
                if position and position[0] == number and position[1] in block_layers:
                    targets[layer] = f"block{index}_{block_layers[position[1]]}"
        paths = {}
        for name, (layer, variable) in split.items():
            target = targets.get(layer, "")
            variable = framework.variables[NORM if target.endswith("_bn") else OTHER].get(variable)
            if target and variable is not None:
                paths[name] = target.format(variable) if "/" in target else f"{target}/{variable}"
        return paths

    def _split_block(self, layer: str) -> tuple[tuple[int, ...], str] | None:
        """Splits a layer name into the numbers of its block and the name inside the block."""
        match = re.match(rf"{self.block_pattern}\.", layer)
        return match and (tuple(map(int, match.groups())), layer[match.end() :])

    def _layers_of(self, block: set[str]) -> Mapping[str, str]:
        return next((layers for marker, layers in self.block_layers if not marker or marker in block), {})


@dataclasses.dataclass(frozen=True)
class WeightSource:
    """Another implementation, and how its weights are converted to ours.

    Attributes:
        title: The implementation's name in messages.
        read: (path, ema) -> ({variable: float32 array}, number of ignored variables). With `ema` the moving averages
            replace the weights. Optimizer slots and counters are ignored.
        framework: Variable names and kernel layouts.
        layer_names: Layer names by the network families that the source has.
        required_overrides: Name of our network -> the overrides that this source's weights require.
        split_variables: {variable: array} -> the same with variables split where we have several, or renamed.
        preprocessing: Name of our network -> "mean" and "std" of the images on the scale 0 to 255 with which these
            weights were trained; None for those of our network's `ModelInfo`.
        assumption: (name of our network, its overrides) -> what the import assumes because the file does not contain
            it, or "".
    """

    title: str
    read: Callable[[str, bool], tuple[dict[str, np.ndarray], int]]
    framework: Framework
    layer_names: Mapping[str, LayerNameMap]
    required_overrides: Callable[[str], dict] = lambda name: {}
    split_variables: Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]] = lambda values: values
    preprocessing: Callable[[str], dict | None] = lambda name: None
    assumption: Callable[[str, dict], str] = lambda name, overrides: ""
