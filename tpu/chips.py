"""The chips that a step can be compiled for."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Chip:
    """One chip, which is one replica of a training.

    Attributes:
        name: As in `--topology`.
        slice: The smallest slice that the compiler knows by name; the step is compiled for one chip of it.
        accelerator: Type of such a slice, as Cloud names it.
        flops: Most bfloat16 operations a second; a multiply-add is two.
        bandwidth: Most bytes a second between the chip and its memory.
        memory: Bytes of the memory.
        clock: Cycles a second: `flops` over the operations of all matrix units in a cycle.
    """

    name: str
    slice: str
    accelerator: str
    flops: float
    bandwidth: float
    memory: int
    clock: float


_GIB = 1024**3

# Peaks and memory: cloud.google.com/tpu/docs/v4, /v5e, /v5p and /v6e, tables "system architecture", read in 2026.
# Matrix units a chip, by the same pages: v4 and v5p 2 cores of four 128x128, v5e four 128x128, v6e two 256x256, each of
# which counts double here because its peak does.
CHIPS = {
    chip.name: chip
    for chip in (
        Chip("v4", "v4:2x2x1", "v4-8", 275e12, 1228e9, 32 * _GIB, 1.05e9),
        Chip("v5e", "v5e:2x2", "v5litepod-4", 197e12, 819e9, 16 * _GIB, 1.5e9),
        Chip("v5p", "v5p:2x2x1", "v5p-8", 459e12, 2765e9, 95 * _GIB, 1.75e9),
        Chip("v6e", "v6e:2x2", "v6e-4", 918e12, 1640e9, 32 * _GIB, 1.75e9),
    )
}
