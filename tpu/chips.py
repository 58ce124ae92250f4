"""TPU chips that a step can be compiled for."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Chip:
    """One TPU chip, which is one replica in training.

    Attributes:
        name: Name of the chip, the value of `--topology`.
        slice: Smallest slice that the compiler knows by name; a step is compiled for one chip of it.
        accelerator: Cloud TPU accelerator type of that slice.
        megacore: True if the compiler must be configured to treat the cores of a chip as one device.
        flops: Peak bfloat16 operations per second; a multiply-add counts as two.
        bandwidth: Peak bytes per second between the chip and its memory (HBM).
        memory: Bytes of HBM.
        clock: Cycles per second: `flops` divided by the operations of all matrix units in a cycle.
    """

    name: str
    slice: str
    accelerator: str
    megacore: bool
    flops: float
    bandwidth: float
    memory: int
    clock: float


_GIB = 1024**3

# Peak, bandwidth, memory and number of matrix units are from the specification tables of
# docs.cloud.google.com/tpu/docs/v4, /v5e, /v5p and /v6e. Versions of 2026 round the bandwidths of v5e and v6e
# differently (819 and 800, 1640 and 1600). The compiler reserves a part of the memory and decides what fits. The pages
# state no clock rate; it is the peak divided by the operations of all matrix units in a cycle: two cores of four
# 128x128 units (v4, v5p), four 128x128 (v5e), two 256x256 (v6e, counted twice; counted once, the peak would need
# 3.5 GHz).
CHIPS = {
    chip.name: chip
    for chip in (
        Chip("v4", "v4:2x2x1", "v4-8", True, 275e12, 1200e9, 32 * _GIB, 1.05e9),
        Chip("v5e", "v5e:2x2", "v5litepod-4", False, 197e12, 819e9, 16 * _GIB, 1.5e9),
        Chip("v5p", "v5p:2x2x1", "v5p-8", False, 459e12, 2765e9, 95 * _GIB, 1.75e9),
        Chip("v6e", "v6e:2x2", "v6e-4", False, 918e12, 1640e9, 32 * _GIB, 1.75e9),
    )
}
