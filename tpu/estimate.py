"""Estimated cost of a step on one TPU chip: times, memory, and the share of each layer."""

import dataclasses
import math
from collections import defaultdict
from collections.abc import Callable, Sequence

import ml_collections
import tensorflow as tf

from convzoo.tpu import compiler, hlo_text
from convzoo.tpu.chips import Chip
from convzoo.tpu.lowering import LoweredStep, lower, lower_step


@dataclasses.dataclass(frozen=True)
class LayerCost:
    """Cost of one layer in a step. A fusion counts for the layer of its last operation.

    Attributes:
        layer: Name of the layer, or a part of the step in parentheses.
        seconds: Scheduled cycles as time.
        bytes: Bytes to and from the chip's memory.
        share: Fraction of all scheduled cycles.
    """

    layer: str
    seconds: float
    bytes: int
    share: float


@dataclasses.dataclass(frozen=True)
class Estimate:
    """Cost of a step that was compiled for one chip and not run. All times are estimates.

    Attributes:
        chip: The chip.
        batch_size: Examples per step.
        loops: Number of loops in the program. Trip counts are unknown, so with loops all times are None, and every
            other value except memory counts one iteration of each loop.
        flops: Floating-point operations, by the cost analysis.
        bytes_accessed: Bytes by the cost analysis, which includes bytes that stay in vector memory (VMEM).
        memory_traffic: Bytes to and from the chip's memory (HBM), counted in the compiled program.
        cost_analysis_seconds: Time by the cost analysis: mostly bytes over bandwidth. It does not count work within a
            fusion. None where operations without a cost make it ambiguous.
        cost_analysis_resolution: Seconds to which the cost analysis rounds the time of each operation. It sums in
            single precision and adds -1 second for each operation without a cost, so that a large program loses small
            operations.
        scheduled_seconds: Sum of the cycles that the scheduler expects, divided by the clock rate. It counts work
            within fusions, overestimates depthwise convolutions, and omits asynchronous copies.
        memory: Bytes of "weights", "optimizer", "ema", "batch" (all other arguments of the step, and padding),
            "outputs", "temporaries" (including activations) and "code".
        ops_without_cost: Number of operations without a cost, by name; "(others)" are those of unknown name.
        layers: Cost of each layer, most expensive first.
        compile_seconds: Duration of the compilation.
        versions: Versions of "jax" and "libtpu".
    """

    chip: Chip
    batch_size: int
    loops: int
    flops: float
    bytes_accessed: float
    memory_traffic: int
    cost_analysis_seconds: float | None
    cost_analysis_resolution: float
    scheduled_seconds: float | None
    memory: dict[str, int]
    ops_without_cost: dict[str, int]
    layers: tuple[LayerCost, ...]
    compile_seconds: float
    versions: dict[str, str]

    @property
    def memory_used(self) -> int:
        """Total bytes of the chip's memory."""
        return sum(self.memory.values())

    @property
    def bandwidth_bound_seconds(self) -> float | None:
        """`bytes_accessed` over the chip's bandwidth, or `flops` over its peak if that takes longer."""
        return self._bound_seconds(self.bytes_accessed)

    @property
    def roofline_seconds(self) -> float | None:
        """Lower bound of the compiled program: `memory_traffic` over the bandwidth, or `flops` over the peak."""
        return self._bound_seconds(self.memory_traffic)

    @property
    def bound(self) -> str:
        """The resource that sets `roofline_seconds`: "compute" or "memory"."""
        is_compute = self.flops / self.chip.flops >= self.memory_traffic / self.chip.bandwidth
        return "compute" if is_compute else "memory"

    @property
    def seconds(self) -> dict[str, float | None]:
        """Time of a step by each of the three estimates: "cost_analysis", "bandwidth_bound" and "scheduled"."""
        return {
            "cost_analysis": self.cost_analysis_seconds,
            "bandwidth_bound": self.bandwidth_bound_seconds,
            "scheduled": self.scheduled_seconds,
        }

    @property
    def images_per_second(self) -> dict[str, float]:
        """Images per second of one chip by each known estimate of `seconds`."""
        return {name: self.batch_size / seconds for name, seconds in self.seconds.items() if seconds}

    def hours(self, images: float, chips: int) -> dict[str, float]:
        """Returns the hours for `images` images on `chips` chips by each estimate, without collective operations."""
        return {name: images / (rate * chips) / 3600 for name, rate in self.images_per_second.items()}

    def as_json(self) -> dict:
        """Returns all attributes and properties as JSON values."""
        return {
            **dataclasses.asdict(self),
            "chip": self.chip.name,
            "memory_used": self.memory_used,
            "memory_of_chip": self.chip.memory,
            "roofline_seconds": self.roofline_seconds,
            "bound": self.bound,
            "bandwidth_bound_seconds": self.bandwidth_bound_seconds,
            "images_per_second": self.images_per_second,
        }

    def _bound_seconds(self, num_bytes):
        return None if self.loops else max(self.flops / self.chip.flops, num_bytes / self.chip.bandwidth)


def estimate(
    config: ml_collections.ConfigDict, num_classes: int, chip: Chip, batch_size: int, mode: str = "train"
) -> Estimate:
    """Compiles the step of an experiment for one chip.

    Args:
        config: The experiment.
        num_classes: Number of classes of the data.
        chip: The chip.
        batch_size: Examples per chip.
        mode: "train", "eval" or "serve"; see `lowering.lower`.

    Raises:
        NotForTPUError, CompilerError: The step cannot be lowered or compiled.
    """
    return _compile(lower(config, num_classes, batch_size, mode), chip, batch_size)


def estimate_step(step: Callable, specs: Sequence[tf.TensorSpec], chip: Chip, batch_size: int) -> Estimate:
    """Compiles a function of tensors for one chip; its cost is not divided into layers.

    Args:
        step: From tensors to tensors; it may capture variables.
        specs: Static shapes and dtypes of its arguments.
        chip: The chip.
        batch_size: Examples per call.

    Raises:
        NotForTPUError, CompilerError: The step cannot be lowered or compiled.
    """
    return _compile(LoweredStep(lower_step(step, *specs), "", [], {}), chip, batch_size)


def largest_batch(
    config: ml_collections.ConfigDict,
    num_classes: int,
    chip: Chip,
    batch_size: int,
    mode: str = "train",
    fits: bool | None = None,
) -> int:
    """Searches the largest batch that fits into the chip's memory, to one eighth. Prints a line for each trial.

    Args:
        config: The experiment.
        num_classes: Number of classes of the data.
        chip: The chip.
        batch_size: First batch to try.
        mode: "train", "eval" or "serve".
        fits: Whether `batch_size` fits, if known; each trial compiles the step once.

    Raises:
        CompilerError: The smallest batch does not fit, or the step does not compile.
    """
    unit = config.gradient_accumulation_steps if mode == "train" else 1
    trial = max(1, batch_size // unit)
    fitting, too_large = (trial, None) if fits else (0, trial if fits is False and trial > 1 else None)
    while too_large is None or too_large - fitting > max(1, fitting // 8):
        trial = (fitting + too_large) // 2 if too_large is not None else 2 * fitting or trial
        try:
            used = estimate(config, num_classes, chip, trial * unit, mode).memory_used
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


def _compile(step: LoweredStep, chip: Chip, batch_size: int) -> Estimate:
    program = compiler.compile_hlo(step.hlo, chip)
    instructions = hlo_text.parse_instructions(program.text)
    cycles = sum(instruction.cycles for instruction in instructions)
    if not cycles:
        raise compiler.CompilerError(
            f"the programs of libtpu {program.versions['libtpu']} contain no cycles; install the versions that "
            "setup.py pins"
        )
    loops, scheduled, memory = hlo_text.count_loops(program.text), cycles / chip.clock, program.memory
    ops_without_cost, cost_seconds = _correct_cost(
        program.cost["optimal_seconds"], hlo_text.count_calls_without_cost(program.text), scheduled
    )
    return Estimate(
        chip=chip,
        batch_size=batch_size,
        loops=loops,
        flops=program.cost["flops"],
        bytes_accessed=program.cost["bytes accessed"],
        memory_traffic=sum(instruction.bytes for instruction in instructions),
        cost_analysis_seconds=None if loops else cost_seconds,
        # 2**29 converts the spacing of float64 values to that of float32.
        cost_analysis_resolution=math.ulp(max(1, sum(ops_without_cost.values()))) * 2**29,
        scheduled_seconds=None if loops else scheduled,
        memory={
            **step.state_bytes,
            "batch": memory["arguments"] - sum(step.state_bytes.values()),
            "outputs": memory["outputs"] - memory["aliased"],
            "temporaries": memory["temporaries"],
            "code": memory["code"],
        },
        ops_without_cost=ops_without_cost,
        layers=_layer_costs(instructions, cycles, step, chip),
        compile_seconds=program.seconds,
        versions=program.versions,
    )


def _correct_cost(total, known, scheduled):
    """Returns the number of operations without a cost by name, and the corrected time, or None if it is ambiguous.

    The cost analysis adds -1 second for each operation without a cost. `total` determines their number if the two
    estimates differ by less than half a second. For a longer step, only the operations in `known` count.
    """
    number, number_known = max(0, round(scheduled - total)), sum(known.values())
    counts = {**known, "(others)": number - number_known} if number > number_known else dict(known)
    seconds = total + number
    is_clear = seconds > 0 and (scheduled < 0.5 or number == number_known)
    return counts, seconds if is_clear else None


def _layer_costs(instructions, cycles, step, chip):
    totals = defaultdict(lambda: [0, 0])
    for instruction in instructions:
        total = totals[hlo_text.layer_name(instruction.op_name, step.network, step.layers)]
        total[0] += instruction.cycles
        total[1] += instruction.bytes
    costs = [
        LayerCost(layer, layer_cycles / chip.clock, moved, layer_cycles / max(1, cycles))
        for layer, (layer_cycles, moved) in totals.items()
    ]
    return tuple(sorted(costs, key=lambda cost: (-cost.seconds, cost.layer)))
