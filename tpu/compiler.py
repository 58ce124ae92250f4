"""Compiles HLO with libtpu's compiler. The one file that touches private interfaces of JAX and libtpu.

    python -m convzoo.tpu.compiler STEP.hlo SLICE OUTPUT [megacore]

writes OUTPUT.json and OUTPUT.txt. It is a program of its own because a compiler that meets what it cannot do may end
its process, and because JAX and libtpu are needed nowhere else.
"""

import dataclasses
import importlib.metadata
import importlib.util
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time

from convzoo.tpu.chips import Chip

# Versions of jax and libtpu that were seen to work together; others are tried, and it is said.
KNOWN = (("0.10.2", "0.0.52"),)
# TensorFlow returns the variables that it has changed through mhlo.copy, which StableHLO has no name for.
_COPY = re.compile(r"mhlo\.copy (%\w+) (\{[^}]*\} )?: ")


class CompilerError(RuntimeError):
    """The compiler is not there, or it refused a program: one line."""


class DoesNotFitError(CompilerError):
    """The program needs more memory than the chip has."""


class BrokenCompilerError(CompilerError):
    """The compiler ended without an answer, which may be the machine's fault."""


@dataclasses.dataclass(frozen=True)
class Compiled:
    """A compiled program.

    Attributes:
        text: Its instructions, as XLA prints them.
        cost: The compiler's cost analysis: "flops", "bytes accessed", "optimal_seconds".
        memory: Bytes: "arguments", "outputs", "aliased", "temporaries" and "code".
        seconds: What compiling took.
        devices: Of the slice that the chip stands in.
        versions: Of jax and libtpu.
    """

    text: str
    cost: dict[str, float]
    memory: dict[str, int]
    seconds: float
    devices: int
    versions: dict[str, str]


def check_installed() -> str:
    """Raises CompilerError unless jax and libtpu are there; returns a line to be told of their versions, or ""."""
    missing = [name for name in ("jax", "libtpu") if importlib.util.find_spec(name) is None]
    if missing:
        raise CompilerError(
            f"{' and '.join(missing)} not installed; run pip install -e '.[tpu-compile]' (not beside tensorflow-tpu, "
            "which needs another libtpu)"
        )
    versions = _versions()
    if tuple(versions.values()) in KNOWN:
        return ""
    known = "; ".join(f"jax {jax} with libtpu {libtpu}" for jax, libtpu in KNOWN)
    return f"jax {versions['jax']} with libtpu {versions['libtpu']} was not tried; seen working: {known}"


def compile_hlo(hlo: bytes, chip: Chip) -> Compiled:
    """Compiles a program for one chip.

    Args:
        hlo: A serialised HLO module, as TensorFlow's `experimental_get_compiler_ir` gives it.
        chip: The chip.

    Raises:
        DoesNotFitError: It does not fit into the chip's memory.
        BrokenCompilerError: The compiler broke.
        CompilerError: It refused the program for another reason.
    """
    with tempfile.TemporaryDirectory() as folder:
        source, output = pathlib.Path(folder, "step.hlo"), pathlib.Path(folder, "compiled")
        source.write_bytes(hlo)
        environment = {
            **os.environ,
            "JAX_PLATFORMS": "cpu",  # JAX itself must not look for a TPU
            "TPU_SKIP_MDS_QUERY": "1",  # nor libtpu for Google's metadata server
            "TPU_ACCELERATOR_TYPE": chip.accelerator,
            "TPU_WORKER_HOSTNAMES": "localhost",
            "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",  # there is no TPU that two compilers could quarrel over
        }
        command = [sys.executable, "-m", "convzoo.tpu.compiler", str(source), chip.slice, str(output)]
        if chip.joins_cores:
            command.append("megacore")
        process = subprocess.run(command, env=environment, capture_output=True, text=True)
        record = output.with_suffix(".json")
        if not record.exists():
            said = [line for line in process.stderr.splitlines() if line.strip()]
            raise BrokenCompilerError(
                f"the compiler ended with status {process.returncode}: {said[-1][:300] if said else 'it said nothing'}"
            )
        answer = json.loads(record.read_text())
        if "error" in answer:
            # Its vector memory can be exhausted too, which a smaller batch need not cure.
            of_chip = "RESOURCE_EXHAUSTED" in answer["error"] and "hbm" in answer["error"].lower()
            raise (DoesNotFitError if of_chip else CompilerError)(answer["error"])
        return Compiled(output.with_suffix(".txt").read_text(), **answer)


def _versions():
    return {name: importlib.metadata.version(name) for name in ("jax", "libtpu")}


def _main(source, topology_name, output, cores=None):
    import numpy as np
    from jax._src.lib import xla_client
    from jax.experimental import topologies

    named = {"topology_name": topology_name, **({"chip_config_name": cores} if cores else {})}
    slice_ = topologies.get_topology_desc(platform="tpu", **named)
    device = slice_.devices[0]
    options = xla_client.CompileOptions()
    options.num_replicas = options.num_partitions = 1
    options.device_assignment = xla_client.DeviceAssignment.create(np.array([[device.id]]))
    module = _stablehlo(pathlib.Path(source).read_bytes())
    begin = time.perf_counter()
    try:
        program = device.client.compile(module, xla_client._xla.DeviceList((device,)), options)
    except Exception as error:  # the interface promises no type
        answer = {"error": " ".join(str(error).split())[:600]}
    else:
        seconds = time.perf_counter() - begin
        cost = program.cost_analysis()
        cost = cost[0] if isinstance(cost, list) else cost
        memory = program.get_compiled_memory_stats()
        (compiled,) = program.hlo_modules()
        pathlib.Path(f"{output}.txt").write_text(compiled.to_string())
        answer = {
            "cost": {name: cost[name] for name in ("flops", "bytes accessed", "optimal_seconds")},
            "memory": {
                "arguments": memory.argument_size_in_bytes,
                "outputs": memory.output_size_in_bytes,
                "aliased": memory.alias_size_in_bytes,
                "temporaries": memory.temp_size_in_bytes,
                "code": memory.generated_code_size_in_bytes,
            },
            "seconds": seconds,
            "devices": len(slice_.devices),
            "versions": _versions(),
        }
    pathlib.Path(f"{output}.json").write_text(json.dumps(answer))


def _stablehlo(hlo):
    from jax._src.interpreters import mlir
    from jax._src.lib import xla_client
    from jaxlib.mlir import ir

    text = xla_client._xla.mlir.hlo_to_stablehlo(hlo)
    with mlir.make_ir_context():
        # With its locations, which say what layer an instruction came from.
        printed = ir.Module.parse(text).operation.get_asm(enable_debug_info=True)
        return ir.Module.parse(_COPY.sub(r"stablehlo.optimization_barrier \1 : ", printed))


if __name__ == "__main__":
    _main(*sys.argv[1:])
