"""Parses the text of a compiled TPU program: cycles, memory traffic, and the layer that each instruction came from."""

import collections
import dataclasses
import math
import re
from collections.abc import Collection, Iterator

_BITS = {"pred": 8, "bf16": 16, "f16": 16, "f32": 32, "f64": 64, "c64": 64, "c128": 128}
_SHAPE = re.compile(r"\b([a-z]+\d*\w*)\[([\d,]*)\](?:\{([^}]*)\})?")
_INSTRUCTION = re.compile(r"^ +(?:ROOT )?%?([\w.-]+) = ")
_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.-]+) .*\{$")
_CYCLES = re.compile(r'"estimated_cycles":"(\d+)"')
_OP_NAME = re.compile(r'op_name="([^"]*)"')
_CALLED = re.compile(r"to_apply=%?([\w.-]+)")
_BODY = re.compile(r"body=%?([\w.-]+)")
_BRANCHES = re.compile(r"(?:branch_computations=\{([^}]*)\}|(?:true|false)_computation=(%?[\w.-]+))")
_CUSTOM_CALL = re.compile(r'custom_call_target="(\w+)"')
# Opcodes that name, order or reshape data without moving it.
_NO_DATA_MOVED = {
    "parameter", "constant", "get-tuple-element", "tuple", "bitcast", "after-all", "partition-id", "replica-id",
}  # fmt: skip
# Custom calls without an entry in the cost analysis: they join prefetched slices or the halves of 64-bit numbers, which
# is hardly any work.
_WITHOUT_COST = {"ConcatBitcast", "SliceToDynamic", "X64Combine", "X64SplitHigh", "X64SplitLow"}


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One instruction of a compiled program, usually a fusion of many operations.

    Attributes:
        name: Name in the program.
        opcode: XLA's opcode.
        op_name: Name of the TensorFlow op that it came from, with the enclosing layers; "" if unknown.
        cycles: The compiler's estimate; 0 where it has none, for example for asynchronous copies.
        bytes: Bytes of operands and results in the chip's memory (HBM), without those in vector memory (VMEM).
    """

    name: str
    opcode: str
    op_name: str
    cycles: int
    bytes: int


def parse_instructions(text: str) -> list[Instruction]:
    """Returns the instructions of a compiled program in order; instructions of a loop occur once."""
    computations, entry, lines = {}, None, None
    for line in text.splitlines():
        if match := _COMPUTATION.match(line):
            lines = computations.setdefault(match[2], [])
            entry = match[2] if match[1] else entry
        elif lines is not None and _INSTRUCTION.match(line):
            lines.append(line)
    return list(_walk(computations, entry))


def count_calls_without_cost(text: str) -> dict[str, int]:
    """Returns the number of custom calls known to have no cost in the cost analysis, by name."""
    return dict(collections.Counter(name for name in _CUSTOM_CALL.findall(text) if name in _WITHOUT_COST))


def count_loops(text: str) -> int:
    """Returns the number of loops. A program does not state trip counts, so estimates count one iteration of each."""
    return sum(" while(" in line for line in text.splitlines())


def layer_name(op_name: str, network: str, layers: Collection[str]) -> str:
    """Returns the layer that an op belongs to, or a word in parentheses for its part of the training step.

    Args:
        op_name: See `Instruction`.
        network: Name of the network.
        layers: Names of its layers.
    """
    scopes = op_name.removeprefix("gradient_tape/").split("/")
    # TensorFlow makes names unique with a numeric suffix.
    if len(scopes) > 1 and _equals_without_suffix(scopes[0], network):
        for layer in (scopes[1], re.sub(r"_\d+$", "", scopes[1])):
            if layer in layers:
                return layer
    for scope in ("loss", "update", "ema"):
        if _equals_without_suffix(scopes[0], scope):
            return f"({scope})"
    return "(other)"


def _equals_without_suffix(scope, name):
    return re.fullmatch(rf"{re.escape(name)}(_\d+)?", scope) is not None


def _walk(computations, name) -> Iterator[Instruction]:
    types = {}
    for line in computations[name]:
        match = _INSTRUCTION.match(line)
        result_type, rest = _split_type(line[match.end() :])
        opcode, operands, attributes = _split_call(rest)
        types[match[1]] = result_type
        if opcode == "while":
            yield from _walk(computations, _BODY.search(attributes)[1])
        elif opcode == "call":
            for called in _CALLED.findall(attributes):
                yield from _walk(computations, called)
        elif opcode == "conditional":
            names = ",".join(",".join(pair) for pair in _BRANCHES.findall(attributes)).split(",")
            branches = [list(_walk(computations, name.strip(" %"))) for name in names if name]
            yield from max(branches, key=lambda branch: sum(item.cycles for item in branch), default=[])
        elif not (opcode in _NO_DATA_MOVED or opcode.endswith("-done") or "ConcatBitcast" in attributes):
            traffic = _traffic(opcode, result_type, [types.get(operand, "") for operand in operands])
            cycles, op_name = _CYCLES.search(attributes), _OP_NAME.search(attributes)
            yield Instruction(match[1], opcode, op_name[1] if op_name else "", int(cycles[1]) if cycles else 0, traffic)


def _split_type(text):
    """Returns the type at the start of `text` and the rest."""
    if not text.startswith("("):
        result_type, _, rest = text.partition(" ")
        return result_type, rest
    end = _closing_parenthesis(text)
    return text[:end], text[end:].lstrip()


def _split_call(text):
    """Returns opcode, names of the operands, and attributes."""
    opcode, _, _ = text.partition("(")
    arguments = text[len(opcode) :]
    end = _closing_parenthesis(arguments)
    return opcode, re.findall(r"%([\w.-]+)", arguments[:end]), arguments[end:]


def _closing_parenthesis(text):
    """Returns the index behind the parenthesis that closes the first one."""
    depth = 0
    for index, character in enumerate(text):
        depth += (character == "(") - (character == ")")
        if not depth:
            return index + 1
    return len(text)


def _traffic(opcode, results, operands):
    """Returns the bytes that an instruction reads from HBM and writes to it."""
    if not opcode.endswith("-start"):
        return _hbm_bytes(results) + sum(map(_hbm_bytes, operands))
    # Asynchronous instructions also return their source: a copy after its result, others such as slices before it.
    if results.startswith("(("):
        results = results[_closing_parenthesis(results[1:]) + 1 :]
    result = _SHAPE.search(results)
    if not result:
        return 0
    size = _hbm_bytes(result[0], any_memory=True)
    return _hbm_bytes(result[0]) + min(size, sum(map(_hbm_bytes, operands)))


def _hbm_bytes(type_text, any_memory=False):
    """Returns the unpadded bytes of a type's arrays in HBM; a layout with S(1) or above is in another memory."""
    total = 0
    for element_type, sizes, layout in _SHAPE.findall(type_text):
        if not any_memory and re.search(r"S\([1-9]", layout):
            continue
        digits = re.search(r"\d+", element_type)
        bits = _BITS.get(element_type) or (int(digits[0]) if digits else 8)
        total += math.prod(int(size) for size in sizes.split(",") if size) * bits // 8
    return total
