"""Compiles HLO with libtpu's compiler. This is the only file that uses private interfaces of JAX and libtpu.

    python -m convzoo.tpu.compiler STEP.hlo SLICE OUTPUT [megacore]

writes OUTPUT.json and OUTPUT.txt. The compiler runs in a separate process because it can abort its process on a program
that it does not support, and because nothing else needs JAX and libtpu. `KNOWN_VERSIONS` lists the versions that this
file was checked with.
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

from convzoo.errors import UserError
from convzoo.tpu.chips import Chip

# Versions of (jax, libtpu) that this file was checked with. Others are tried after a warning.
KNOWN_VERSIONS = (("0.10.2", "0.0.52"),)
# TensorFlow returns updated variables through mhlo.copy, which has no StableHLO equivalent.
_COPY = re.compile(r"mhlo\.copy (%\w+) (\{[^}]*\} )?: ")


class CompilerError(UserError, RuntimeError):
    """The TPU compiler is not installed, or it rejected a program."""


class DoesNotFitError(CompilerError):
    """The program needs more memory than the chip has."""


class CompilerCrashError(CompilerError):
    """The compiler process ended without a result. The cause can be temporary, such as too little host memory."""


@dataclasses.dataclass(frozen=True)
class CompiledProgram:
    """A compiled program.

    Attributes:
        text: Its instructions, as XLA prints them.
        cost: The compiler's cost analysis: "flops", "bytes accessed", "optimal_seconds".
        memory: Bytes of "arguments", "outputs", "aliased", "temporaries" and "code".
        seconds: Duration of the compilation.
        devices: Number of chips of the slice that was compiled for.
        versions: Versions of "jax" and "libtpu".
    """

    text: str
    cost: dict[str, float]
    memory: dict[str, int]
    seconds: float
    devices: int
    versions: dict[str, str]


def check_installed() -> str:
    """Returns a warning about unknown versions of jax and libtpu, or "". Raises CompilerError if one is missing."""
    missing = [name for name in ("jax", "libtpu") if importlib.util.find_spec(name) is None]
    if missing:
        raise CompilerError(
            f"{' and '.join(missing)} not installed; run pip install -e '.[tpu-compile]' in an environment without "
            "tensorflow-tpu, which needs another libtpu"
        )
    versions = _versions()
    if tuple(versions.values()) in KNOWN_VERSIONS:
        return ""
    known = "; ".join(f"jax {jax} with libtpu {libtpu}" for jax, libtpu in KNOWN_VERSIONS)
    return f"jax {versions['jax']} with libtpu {versions['libtpu']} is not tested; tested: {known}"


def compile_hlo(hlo: bytes, chip: Chip) -> CompiledProgram:
    """Compiles a program for one chip.

    Args:
        hlo: A serialized HLO module from TensorFlow's `experimental_get_compiler_ir`.
        chip: The chip.

    Raises:
        DoesNotFitError: The program does not fit into the chip's memory.
        CompilerCrashError: The compiler process ended without a result.
        CompilerError: The compiler rejected the program for another reason.
    """
    with tempfile.TemporaryDirectory() as folder:
        source, output = pathlib.Path(folder, "step.hlo"), pathlib.Path(folder, "compiled")
        source.write_bytes(hlo)
        environment = {
            **os.environ,
            "JAX_PLATFORMS": "cpu",  # keeps JAX from searching for a TPU
            "TPU_SKIP_MDS_QUERY": "1",  # keeps libtpu from querying Google's metadata server
            "TPU_ACCELERATOR_TYPE": chip.accelerator,
            "TPU_WORKER_HOSTNAMES": "localhost",
            "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",  # there is no TPU that two processes could compete for
        }
        command = [sys.executable, "-m", "convzoo.tpu.compiler", str(source), chip.slice, str(output)]
        if chip.megacore:
            command.append("megacore")
        process = subprocess.run(command, env=environment, capture_output=True, text=True)
        result = output.with_suffix(".json")
        if not result.exists():
            lines = [line for line in process.stderr.splitlines() if line.strip()] or ["no error message"]
            raise CompilerCrashError(f"the compiler process ended with status {process.returncode}: {lines[-1][:300]}")
        fields = json.loads(result.read_text())
        if error := fields.get("error"):
            # Vector memory can be exhausted too, where a smaller batch need not help.
            exceeds_hbm = "RESOURCE_EXHAUSTED" in error and "hbm" in error.lower()
            raise (DoesNotFitError if exceeds_hbm else CompilerError)(error)
        return CompiledProgram(output.with_suffix(".txt").read_text(), **fields)


def _versions():
    return {name: importlib.metadata.version(name) for name in ("jax", "libtpu")}


def _main(source, slice_name, output, chip_config=None):
    import numpy as np
    from jax._src.lib import xla_client
    from jax.experimental import topologies

    settings = {"chip_config_name": chip_config} if chip_config else {}
    topology = topologies.get_topology_desc(platform="tpu", topology_name=slice_name, **settings)
    device = topology.devices[0]
    options = xla_client.CompileOptions()
    options.num_replicas = options.num_partitions = 1
    options.device_assignment = xla_client.DeviceAssignment.create(np.array([[device.id]]))
    module = _stablehlo(pathlib.Path(source).read_bytes())
    begin = time.perf_counter()
    try:
        program = device.client.compile(module, xla_client._xla.DeviceList((device,)), options)
    except Exception as error:  # the interface documents no exception type
        fields = {"error": " ".join(str(error).split())[:600]}
    else:
        seconds = time.perf_counter() - begin
        cost = program.cost_analysis()
        cost = cost[0] if isinstance(cost, list) else cost
        memory = program.get_compiled_memory_stats()
        (compiled,) = program.hlo_modules()
        pathlib.Path(f"{output}.txt").write_text(compiled.to_string())
        fields = {
            "cost": {name: cost[name] for name in ("flops", "bytes accessed", "optimal_seconds")},
            "memory": {
                "arguments": memory.argument_size_in_bytes,
                "outputs": memory.output_size_in_bytes,
                "aliased": memory.alias_size_in_bytes,
                "temporaries": memory.temp_size_in_bytes,
                "code": memory.generated_code_size_in_bytes,
            },
            "seconds": seconds,
            "devices": len(topology.devices),
            "versions": _versions(),
        }
    pathlib.Path(f"{output}.json").write_text(json.dumps(fields))


def _stablehlo(hlo):
    from jax._src.interpreters import mlir
    from jax._src.lib import xla_client
    from jaxlib.mlir import ir

    text = xla_client._xla.mlir.hlo_to_stablehlo(hlo)
    with mlir.make_ir_context():
        # Debug info contains the op names that map instructions to layers.
        module_text = ir.Module.parse(text).operation.get_asm(enable_debug_info=True)
        return ir.Module.parse(_COPY.sub(r"stablehlo.optimization_barrier \1 : ", module_text))


if __name__ == "__main__":
    _main(*sys.argv[1:])
