"""What the compiler says of a step, put together for people."""

import dataclasses
from collections import defaultdict

import ml_collections

from convzoo.tpu import compiled, compiler
from convzoo.tpu.chips import Chip
from convzoo.tpu.lowering import Lowered, lower


@dataclasses.dataclass(frozen=True)
class Part:
    """What a layer takes of a step: seconds by scheduled cycles, bytes to and from memory, and its share of the cycles.

    A fusion counts for the layer of its last operation.
    """

    layer: str
    seconds: float
    bytes: int
    share: float


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A step that was compiled for one chip and not run. All seconds are estimates.

    Attributes:
        chip: The chip.
        batch_size: Examples on it.
        flops: Floating-point operations, by the cost analysis.
        bytes_accessed: Bytes, by the cost analysis, which counts those that stay in the vector memory too.
        memory_traffic: Bytes to and from the chip's memory, counted in the compiled program.
        cost_seconds: The cost analysis's time: mostly bytes over bandwidth; blind to work within a fusion.
        scheduled_seconds: The sum of the cycles that the scheduler expects: sees work within fusions, and is hard on
            depthwise convolutions; leaves out copies that run beside the rest.
        memory: Bytes: "weights", "optimizer", "average", "batch" (the step's other arguments, and padding), "outputs",
            "temporaries" (activations among them) and "code".
        uncosted: Operations without a cost, by name.
        parts: The layers, dearest first.
        compile_seconds: What compiling took.
        versions: Of jax and libtpu.
    """

    chip: Chip
    batch_size: int
    flops: float
    bytes_accessed: float
    memory_traffic: int
    cost_seconds: float
    scheduled_seconds: float
    memory: dict[str, int]
    uncosted: dict[str, int]
    parts: tuple[Part, ...]
    compile_seconds: float
    versions: dict[str, str]

    @property
    def memory_used(self) -> int:
        """Bytes of the chip's memory, all together."""
        return sum(self.memory.values())

    @property
    def floor_seconds(self) -> float:
        """The least that the compiled program can take: at the chip's peak, or at its bandwidth."""
        return max(self.flops / self.chip.flops, self.memory_traffic / self.chip.bandwidth)

    @property
    def bound(self) -> str:
        """What sets the floor, "compute" or "memory"."""
        of_compute = self.flops / self.chip.flops >= self.memory_traffic / self.chip.bandwidth
        return "compute" if of_compute else "memory"

    def as_json(self) -> dict:
        """All of it, as JSON has it."""
        return {
            **dataclasses.asdict(self),
            "chip": self.chip.name,
            "memory_used": self.memory_used,
            "memory_of_chip": self.chip.memory,
            "floor_seconds": self.floor_seconds,
            "bound": self.bound,
            "images_per_second": {
                "by_cost": self.batch_size / self.cost_seconds,
                "by_schedule": self.batch_size / self.scheduled_seconds,
            },
        }


def estimate(
    config: ml_collections.ConfigDict, num_classes: int, chip: Chip, batch_size: int, what: str = "train"
) -> Estimate:
    """Compiles the step of an experiment for a chip.

    Args:
        config: The experiment.
        num_classes: Of its data.
        chip: The chip.
        batch_size: Examples on it.
        what: As `lowering.lower` takes it.

    Raises:
        lowering.NotForTPUError, compiler.CompilerError: It cannot be compiled.
    """
    return _read(lower(config, num_classes, batch_size, what), chip, batch_size)


def largest_batch(
    config: ml_collections.ConfigDict, num_classes: int, chip: Chip, batch_size: int, what: str = "train"
) -> int:
    """The largest batch that fits into the chip's memory, to an eighth; prints a line for each that was tried.

    Args:
        config: The experiment.
        num_classes: Of its data.
        chip: The chip.
        batch_size: Where the search begins.
        what: As `lowering.lower` takes it.

    Raises:
        compiler.CompilerError: Not even one example fits, or something else than the memory is in the way.
    """
    fits, too_large = 0, None
    trial = batch_size
    while too_large is None or too_large - fits > max(1, fits // 8):
        try:
            used = estimate(config, num_classes, chip, trial, what).memory_used
        except compiler.DoesNotFitError:
            if trial == 1:
                raise
            too_large = trial
            print(f"batch {trial}: does not fit", flush=True)
        else:
            if used > chip.memory:
                raise compiler.CompilerError(
                    f"batch {trial} was compiled, and takes {used} bytes of {chip.memory}: the table of chips is wrong"
                )
            fits = trial
            print(f"batch {trial}: fits, {used / 2**30:.2f} of {chip.memory / 2**30:.0f} GiB", flush=True)
        trial = 2 * fits if too_large is None else (fits + too_large) // 2 or 1
    return fits


def _read(step: Lowered, chip: Chip, batch_size: int) -> Estimate:
    program = compiler.compile_hlo(step.hlo, chip.slice, chip.accelerator)
    instructions = compiled.read(program.text)
    cycles = sum(instruction.cycles * instruction.times for instruction in instructions)
    uncosted = compiled.uncosted(program.text)
    cost_seconds = program.cost["optimal_seconds"] + sum(uncosted.values())
    if not 0 < cost_seconds < 100 * cycles / chip.clock:
        # Other operations than those counted here had no cost: the whole seconds are unknown, and mostly none.
        cost_seconds = program.cost["optimal_seconds"] % 1
    memory = program.memory
    return Estimate(
        chip=chip,
        batch_size=batch_size,
        flops=program.cost["flops"],
        bytes_accessed=program.cost["bytes accessed"],
        memory_traffic=sum(instruction.bytes * instruction.times for instruction in instructions),
        cost_seconds=cost_seconds,
        scheduled_seconds=cycles / chip.clock,
        memory={
            **step.sizes,
            "batch": memory["arguments"] - sum(step.sizes.values()),
            "outputs": memory["outputs"] - memory["aliased"],
            "temporaries": memory["temporaries"],
            "code": memory["code"],
        },
        uncosted=uncosted,
        parts=_parts(instructions, cycles, step, chip),
        compile_seconds=program.seconds,
        versions=program.versions,
    )


def _parts(instructions, cycles, step, chip):
    of_layer = defaultdict(lambda: [0, 0])
    for instruction in instructions:
        part = of_layer[compiled.layer_of(instruction.op_name, step.network, step.layers)]
        part[0] += instruction.cycles * instruction.times
        part[1] += instruction.bytes * instruction.times
    parts = [
        Part(layer, spent / chip.clock, moved, spent / max(1, cycles)) for layer, (spent, moved) in of_layer.items()
    ]
    return tuple(sorted(parts, key=lambda part: (-part.seconds, part.layer)))
