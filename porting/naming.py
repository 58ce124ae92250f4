"""From a source's names of layers to ours, by tables."""

import dataclasses
import re
from collections.abc import Iterable, Mapping

from convzoo.porting.layouts import NORM, OTHER, Layout


@dataclasses.dataclass(frozen=True)
class Naming:
    """Names of one family's layers in a source.

    Attributes:
        layers: Their layer -> ours, outside the blocks.
        block: Pattern at the start of a block's layers. Its groups are numbers; blocks sorted by them are our block0,
            block1, ... over the whole network.
        parts: Kinds of blocks, as (marker, {their layer within the block: ours within the block}). A block is of the
            first kind whose marker is one of its layers; the marker "" fits every block. Where a layer of theirs is
            part of one of ours, "expand_conv/routing_{}" says what its variables are called there.
    """

    layers: Mapping[str, str]
    block: str
    parts: tuple[tuple[str, Mapping[str, str]], ...]

    def paths(self, names: Iterable[str], layout: Layout) -> dict[str, str]:
        """{variable "layer.variable" of theirs: "layer/variable" of ours}, without those that have no place."""
        split = {name: name.rpartition(".")[::2] for name in names}
        inside = {layer: self._inside(layer) for layer, _ in split.values() if layer not in self.layers}
        blocks = {}
        for place in filter(None, inside.values()):
            blocks.setdefault(place[0], set()).add(place[1])
        kinds = {number: (f"block{index}_", self._kind(blocks[number])) for index, number in enumerate(sorted(blocks))}

        def ours(layer):
            if layer in self.layers:
                return self.layers[layer]
            if inside[layer] is None:
                return None
            number, part = inside[layer]
            prefix, kind = kinds[number]
            return prefix + kind[part] if part in kind else None

        paths = {}
        for name, (layer, variable) in split.items():
            target = ours(layer)
            if target is None:
                continue
            variable = layout.variables[NORM if target.endswith("_bn") else OTHER].get(variable)
            if variable is not None:
                paths[name] = target.format(variable) if "/" in target else f"{target}/{variable}"
        return paths

    def _inside(self, layer: str) -> tuple[tuple[int, ...], str] | None:
        match = re.match(rf"{self.block}\.", layer)
        return match and (tuple(map(int, match.groups())), layer[match.end() :])

    def _kind(self, layers: set[str]) -> Mapping[str, str]:
        return next((parts for marker, parts in self.parts if not marker or marker in layers), {})
