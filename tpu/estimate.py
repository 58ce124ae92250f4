"""What the compiler says of a step, put together for people."""

import dataclasses
import math
from collections import defaultdict
from collections.abc import Callable, Sequence

import ml_collections
import tensorflow as tf

from convzoo.tpu import compiled, compiler
from convzoo.tpu.chips import Chip
from convzoo.tpu.lowering import Lowered, lower, lower_step


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
        loops: Loops in the program. Their turns are not known to any estimate, so that with loops all times are None,
            and everything but the memory counts one turn of each.
        flops: Floating-point operations, by the cost analysis.
        bytes_accessed: Bytes, by the cost analysis, which counts those that stay in the vector memory too.
        memory_traffic: Bytes to and from the chip's memory, counted in the compiled program.
        cost_seconds: The cost analysis's time: mostly bytes over bandwidth; blind to work within a fusion. None where
            operations without a cost leave it unclear.
        cost_resolution: Seconds to which the cost analysis rounds each operation's time. It adds them up in single
            precision, with -1 second for each operation without a cost: small operations vanish in a large program.
        scheduled_seconds: The sum of the cycles that the scheduler expects: sees work within fusions, and is hard on
            depthwise convolutions; leaves out copies that run beside the rest.
        memory: Bytes: "weights", "optimizer", "average", "batch" (the step's other arguments, and padding), "outputs",
            "temporaries" (activations among them) and "code".
        uncosted: Operations without a cost, by name; "(others)" are those that the compiler does not tell of.
        parts: The layers, dearest first.
        compile_seconds: What compiling took.
        versions: Of jax and libtpu.
    """

    chip: Chip
    batch_size: int
    loops: int
    flops: float
    bytes_accessed: float
    memory_traffic: int
    cost_seconds: float | None
    cost_resolution: float
    scheduled_seconds: float | None
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
    def bytes_seconds(self) -> float | None:
        """What the bytes of the cost analysis take at the chip's bandwidth, or its operations at the peak if longer."""
        return None if self.loops else max(self.bytes_accessed / self.chip.bandwidth, self.flops / self.chip.flops)

    @property
    def floor_seconds(self) -> float | None:
        """The least that the compiled program can take: at the chip's peak, or at its bandwidth."""
        return None if self.loops else max(self.flops / self.chip.flops, self.memory_traffic / self.chip.bandwidth)

    @property
    def bound(self) -> str:
        """What sets the floor, "compute" or "memory"."""
        of_compute = self.flops / self.chip.flops >= self.memory_traffic / self.chip.bandwidth
        return "compute" if of_compute else "memory"

    @property
    def images_per_second(self) -> dict[str, float]:
        """Of one chip, by each of the three estimates that is known: "by_cost", "by_bytes" and "by_schedule"."""
        estimates = {
            "by_cost": self.cost_seconds,
            "by_bytes": self.bytes_seconds,
            "by_schedule": self.scheduled_seconds,
        }
        return {by: self.batch_size / seconds for by, seconds in estimates.items() if seconds}

    def hours(self, images: float, chips: int) -> dict[str, float]:
        """Hours that so many images take on so many chips, by each estimate; sums over chips take no time here."""
        return {by: images / (rate * chips) / 3600 for by, rate in self.images_per_second.items()}

    def as_json(self) -> dict:
        """All of it, as JSON has it."""
        return {
            **dataclasses.asdict(self),
            "chip": self.chip.name,
            "memory_used": self.memory_used,
            "memory_of_chip": self.chip.memory,
            "floor_seconds": self.floor_seconds,
            "bound": self.bound,
            "bytes_seconds": self.bytes_seconds,
            "images_per_second": self.images_per_second,
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


def estimate_step(step: Callable, specs: Sequence[tf.TensorSpec], chip: Chip, batch_size: int) -> Estimate:
    """Compiles any function of tensors for a chip; all of it counts as one part, and its arguments as the batch.

    Args:
        step: Of tensors to tensors, with whatever variables it captures.
        specs: Of its arguments, without unknown sizes.
        chip: The chip.
        batch_size: Examples that it takes.

    Raises:
        lowering.NotForTPUError, compiler.CompilerError: It cannot be compiled.
    """
    return _read(Lowered(lower_step(step, *specs), "", [], {}), chip, batch_size)


def largest_batch(
    config: ml_collections.ConfigDict,
    num_classes: int,
    chip: Chip,
    batch_size: int,
    what: str = "train",
    fits: bool | None = None,
) -> int:
    """The largest batch that fits into the chip's memory, to an eighth; prints a line for each that was tried.

    Args:
        config: The experiment.
        num_classes: Of its data.
        chip: The chip.
        batch_size: Where the search begins.
        what: As `lowering.lower` takes it.
        fits: Whether `batch_size` fits, if that is known: each trial takes as long as compiling once.

    Raises:
        compiler.CompilerError: Not even the smallest batch fits, or something else than the memory is in the way.
    """
    # In units of the parts of gradient accumulation.
    unit = config.gradient_accumulation if what == "train" else 1
    trial = max(1, batch_size // unit)
    fitting, too_large = (trial, None) if fits else (0, trial if fits is False and trial > 1 else None)
    while too_large is None or too_large - fitting > max(1, fitting // 8):
        trial = (fitting + too_large) // 2 if too_large is not None else 2 * fitting or trial
        try:
            used = estimate(config, num_classes, chip, trial * unit, what).memory_used
        except compiler.DoesNotFitError:
            if trial == 1:
                raise
            too_large = trial
            print(f"batch {trial * unit}: does not fit", flush=True)
        else:
            fitting = trial
            print(
                f"batch {trial * unit}: fits, {used / 2**30:.2f} of {chip.memory / 2**30:.0f} GiB",
                flush=True,
            )
    return fitting * unit


def _read(step: Lowered, chip: Chip, batch_size: int) -> Estimate:
    program = compiler.compile_hlo(step.hlo, chip)
    instructions = compiled.read(program.text)
    cycles = sum(instruction.cycles for instruction in instructions)
    if not cycles:
        raise compiler.CompilerError(
            f"libtpu {program.versions['libtpu']} prints its programs without cycles; use the versions that setup.py "
            "pins"
        )
    loops, scheduled, memory = compiled.loops(program.text), cycles / chip.clock, program.memory
    uncosted, cost_seconds = _without_cost(program.cost["optimal_seconds"], compiled.uncosted(program.text), scheduled)
    return Estimate(
        chip=chip,
        batch_size=batch_size,
        loops=loops,
        flops=program.cost["flops"],
        bytes_accessed=program.cost["bytes accessed"],
        memory_traffic=sum(instruction.bytes for instruction in instructions),
        cost_seconds=None if loops else cost_seconds,
        cost_resolution=math.ulp(max(1, sum(uncosted.values()))) * 2**29,  # of float32, whose significand is shorter
        scheduled_seconds=None if loops else scheduled,
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


def _without_cost(total, known, scheduled):
    """Operations without a cost, by name, and the cost analysis's time, from its sum; None if that is unclear.

    Each of them is -1 second in the sum. How many there are the sum tells by itself, as long as the two estimates are
    less than half a second apart; of a step that long only those that are known by name are believed.
    """
    number, named = max(0, round(scheduled - total)), sum(known.values())
    uncosted = {**known, "(others)": number - named} if number > named else dict(known)
    seconds = total + number
    is_clear = seconds > 0 and (scheduled < 0.5 or number == named)
    return uncosted, seconds if is_clear else None


def _parts(instructions, cycles, step, chip):
    of_layer = defaultdict(lambda: [0, 0])
    for instruction in instructions:
        part = of_layer[compiled.layer_of(instruction.op_name, step.network, step.layers)]
        part[0] += instruction.cycles
        part[1] += instruction.bytes
    parts = [
        Part(layer, spent / chip.clock, moved, spent / max(1, cycles)) for layer, (spent, moved) in of_layer.items()
    ]
    return tuple(sorted(parts, key=lambda part: (-part.seconds, part.layer)))
