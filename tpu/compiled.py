"""Reads what XLA prints of a compiled TPU program: cycles, memory traffic, and the layer that each part came from."""

import collections
import dataclasses
import math
import re
from collections.abc import Collection, Iterator

_BITS = {"pred": 8, "bf16": 16, "f16": 16, "f32": 32, "f64": 64, "c64": 64, "c128": 128}
_SHAPE = re.compile(r"\b([a-z]+\d*\w*)\[([\d,]*)\](?:\{([^}]*)\})?")
_LINE = re.compile(r"^ +(?:ROOT )?%?([\w.-]+) = ")
_HEAD = re.compile(r"^(ENTRY )?%?([\w.-]+) .*\{$")
_CYCLES = re.compile(r'"estimated_cycles":"(\d+)"')
_CALLED = re.compile(r"to_apply=%?([\w.-]+)")
_BRANCHES = re.compile(r"(?:branch_computations=\{([^}]*)\}|(?:true|false)_computation=(%?[\w.-]+))")
# They name, order or reshape without moving anything.
_FREE = {"parameter", "constant", "get-tuple-element", "tuple", "bitcast", "after-all", "partition-id", "replica-id"}
_TARGET = re.compile(r'custom_call_target="(\w+)"')
# What the cost analysis has no cost for: calls that join slices fetched ahead, or the halves of 64-bit numbers, and
# such. They do hardly any work.
_UNCOSTED = {"ConcatBitcast", "SliceToDynamic", "X64Combine", "X64SplitHigh", "X64SplitLow"}


@dataclasses.dataclass(frozen=True)
class Instruction:
    """What the chip does in one go: mostly a fusion of many operations.

    Attributes:
        name: In the program.
        opcode: XLA's word for it.
        op_name: TensorFlow's name of the operation that it came from, with the layers that were called; "" if none.
        cycles: The compiler's estimate; 0 where it has none, as for copies that run beside the rest.
        bytes: Of operands and results that lie in the chip's memory, and not in its fast vector memory.
    """

    name: str
    opcode: str
    op_name: str
    cycles: int
    bytes: int


def read(text: str) -> list[Instruction]:
    """The instructions of a compiled program, in order; those of a loop once."""
    bodies, entry = {}, None
    lines = None
    for line in text.splitlines():
        if head := _HEAD.match(line):
            lines = bodies.setdefault(head[2], [])
            entry = head[2] if head[1] else entry
        elif lines is not None and _LINE.match(line):
            lines.append(line)
    return list(_walk(bodies, entry))


def uncosted(text: str) -> dict[str, int]:
    """How many calls of what is known to have no cost in the cost analysis, by name."""
    return dict(collections.Counter(name for name in _TARGET.findall(text) if name in _UNCOSTED))


def loops(text: str) -> int:
    """How many loops there are. A program does not say how often they turn, and every estimate counts one turn."""
    return sum(" while(" in line for line in text.splitlines())


def layer_of(op_name: str, network: str, layers: Collection[str]) -> str:
    """The layer that an operation came from, or else a word for its part of the step.

    Args:
        op_name: As in `Instruction`.
        network: The network's name.
        layers: Names of its layers.
    """
    parts = op_name.removeprefix("gradient_tape/").split("/")
    # TensorFlow makes names unique with a number behind them.
    if len(parts) > 1 and _is(parts[0], network):
        for layer in (parts[1], re.sub(r"_\d+$", "", parts[1])):
            if layer in layers:
                return layer
    for part in ("loss", "update", "average"):
        if _is(parts[0], part):
            return f"({part})"
    return "(other)"


def _is(part, name):
    return re.fullmatch(rf"{re.escape(name)}(_\d+)?", part) is not None


def _walk(bodies, name) -> Iterator[Instruction]:
    sizes = {}
    for line in bodies[name]:
        head = _LINE.match(line)
        type_text, rest = _type(line[head.end() :])
        opcode, operands, after = _call(rest)
        sizes[head[1]] = type_text
        if opcode == "while":
            (body,) = re.findall(r"body=%?([\w.-]+)", after)
            yield from _walk(bodies, body)
            continue
        if opcode == "call":
            for called in _CALLED.findall(after):
                yield from _walk(bodies, called)
            continue
        if opcode == "conditional":
            named = ",".join(",".join(pair) for pair in _BRANCHES.findall(after)).split(",")
            branches = [list(_walk(bodies, name.strip(" %"))) for name in named if name]
            yield from max(branches, key=lambda branch: sum(part.cycles for part in branch), default=[])
            continue
        if opcode in _FREE or opcode.endswith("-done") or "ConcatBitcast" in after:
            continue
        moved = _moved(opcode, type_text, [sizes.get(operand, "") for operand in operands])
        cycles, op_name = _CYCLES.search(after), re.search(r'op_name="([^"]*)"', after)
        yield Instruction(head[1], opcode, op_name[1] if op_name else "", int(cycles[1]) if cycles else 0, moved)


def _type(text):
    """The type at the beginning of `text`, and what follows it."""
    if not text.startswith("("):
        kind, _, rest = text.partition(" ")
        return kind, rest
    end = _closing(text)
    return text[:end], text[end:].lstrip()


def _call(text):
    opcode, _, _ = text.partition("(")
    inner = text[len(opcode) :]
    end = _closing(inner)
    return opcode, re.findall(r"%([\w.-]+)", inner[:end]), inner[end:]


def _closing(text):
    depth = 0
    for index, letter in enumerate(text):
        depth += (letter == "(") - (letter == ")")
        if not depth:
            return index + 1
    return len(text)


def _moved(opcode, results, operands):
    """Bytes that an instruction reads from the chip's memory and writes to it."""
    if not opcode.endswith("-start"):
        return _bytes(results) + sum(map(_bytes, operands))
    # What runs beside the rest returns its source as well: a copy behind its result, others, of slices say, before it.
    if results.startswith("(("):
        results = results[_closing(results[1:]) + 1 :]
    result = _SHAPE.search(results)
    size = _bytes(result[0], everywhere=True) if result else 0
    return (_bytes(result[0]) if result else 0) + min(size, sum(map(_bytes, operands)))


def _bytes(type_text, everywhere=False):
    """Bytes, without padding, of the arrays of a type that lie in the chip's memory; S(1) and above are others."""
    total = 0
    for kind, sizes, layout in _SHAPE.findall(type_text):
        if not everywhere and re.search(r"S\([1-9]", layout):
            continue
        digits = re.search(r"\d+", kind)
        bits = _BITS.get(kind) or (int(digits[0]) if digits else 8)
        total += math.prod(int(size) for size in sizes.split(",") if size) * bits // 8
    return total
