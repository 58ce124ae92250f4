"""The chips that a step can be compiled for."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Chip:
    """One chip, which is one replica of a training.

    Attributes:
        name: As in `--topology`.
        slice: The smallest slice that the compiler knows by name; the step is compiled for one chip of it.
        accelerator: Type of such a slice, as Cloud names it.
        joins_cores: Whether the compiler has to be told that the cores of a chip are one device.
        flops: Most bfloat16 operations a second; a multiply-add is two.
        bandwidth: Most bytes a second between the chip and its memory.
        memory: Bytes of the memory.
        clock: Cycles a second: `flops` over the operations of all matrix units in a cycle.
    """

    name: str
    slice: str
    accelerator: str
    joins_cores: bool
    flops: float
    bandwidth: float
    memory: int
    clock: float


_GIB = 1024**3

# Peak, bandwidth, memory and number of matrix units: the tables of specifications on docs.cloud.google.com/tpu/docs/v4,
# /v5e, /v5p and /v6e. Copies of 2026 round the bandwidths of v5e and v6e in several ways (819 and 800, 1640 and 1600).
# The compiler keeps a part of the memory, and knows best what fits. The pages give no clock: it is the peak over the
# multiply-adds of all matrix units in a cycle. Those are two cores of four 128x128 (v4, v5p), four 128x128 (v5e), two
# 256x256 (v6e, counted twice each: counted once, the peak would need 3.5 GHz).
CHIPS = {
    chip.name: chip
    for chip in (
        Chip("v4", "v4:2x2x1", "v4-8", True, 275e12, 1200e9, 32 * _GIB, 1.05e9),
        Chip("v5e", "v5e:2x2", "v5litepod-4", False, 197e12, 819e9, 16 * _GIB, 1.5e9),
        Chip("v5p", "v5p:2x2x1", "v5p-8", False, 459e12, 2765e9, 95 * _GIB, 1.75e9),
        Chip("v6e", "v6e:2x2", "v6e-4", False, 918e12, 1640e9, 32 * _GIB, 1.75e9),
    )
}
