"""Parses the text of a compiled program."""

import pathlib

import pytest

from convzoo.tpu import hlo_text

# In the words of libtpu 0.0.52, shortened: a fusion of the network's, a loop, a copy into vector memory, and the rest.
PROGRAM = pathlib.Path(__file__).with_name("compiled.txt").read_text()


@pytest.fixture(scope="module")
def instructions():
    found = hlo_text.parse_instructions(PROGRAM)
    return {instruction.name: instruction for instruction in reversed(found)}


def test_cycles_and_traffic(instructions):
    assert set(instructions) == {"copy-start", "slice-start", "fusion.3", "buffer", "double", "sine"}
    assert instructions["fusion.3"].cycles == 250
    assert instructions["fusion.3"].bytes == 2 * 16 * 32  # its operand, and its second result, are in vector memory
    assert instructions["copy-start"].bytes == 2 * 16 * 32  # read; written to vector memory
    assert instructions["slice-start"].bytes == 4 * 2 * 128  # of eight rows it reads two
    assert instructions["buffer"].bytes == 0


def test_most_expensive_branch_counts(instructions):
    assert instructions["sine"].cycles == 9


def test_loop_is_counted_once(instructions):
    double = instructions["double"]
    assert (double.cycles, double.bytes) == (10, 3 * 4 * 8 * 128)
    assert hlo_text.count_loops(PROGRAM) == 1


def test_operations_without_cost():
    assert hlo_text.count_calls_without_cost(PROGRAM) == {"ConcatBitcast": 1}


@pytest.mark.parametrize(
    ("op_name", "layer"),
    [
        ("net/stem_conv/convolution", "stem_conv"),
        ("gradient_tape/net_1/block0_conv_2/mul", "block0_conv"),
        ("net_1/block_1/add", "block_1"),  # a layer of that name
        ("net/TensorScatter", "(other)"),
        ("gradient_tape/loss/Sum", "(loss)"),
        ("update_1/AssignSubVariableOp", "(update)"),
        ("ema/sub", "(ema)"),
        ("XLA_Args", "(other)"),
        ("", "(other)"),
    ],
)
def test_layers(op_name, layer):
    assert hlo_text.layer_name(op_name, "net", {"stem_conv", "block0_conv", "block_1"}) == layer
