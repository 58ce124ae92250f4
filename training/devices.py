"""Choosing the devices: a Cloud TPU, the GPUs of one or several machines, or the CPU."""

import contextlib
import dataclasses
import functools
import os
import re
from collections.abc import Sequence

import tensorflow as tf

from convzoo import layers
from convzoo.errors import ConfigError, first_line


@dataclasses.dataclass(frozen=True)
class Devices:
    """The devices that share each batch.

    Attributes:
        strategy: The distribution strategy.
        kind: "tpu", "gpu" or "cpu".
        reason: Why these devices were chosen, for the log.
        num_workers: Number of processes, one per machine, that run the same program. A single process drives a TPU.
        is_chief: Whether this process is the worker that writes files and logs.
        is_remote: Whether the devices belong to other machines, as those of a TPU given by name. Its hosts then run the
            input pipeline.
    """

    strategy: tf.distribute.Strategy
    kind: str
    reason: str
    num_workers: int = 1
    is_chief: bool = True
    is_remote: bool = False

    @property
    def num_replicas(self) -> int:
        """Number of devices that share each batch."""
        return self.strategy.num_replicas_in_sync

    def has_local_input(self, context: tf.distribute.InputContext) -> bool:
        """Returns whether the input pipeline of `context` runs in this process, where TensorFlow can call Python."""
        return not self.is_remote and context.num_input_pipelines == self.num_workers

    def all_reduce_max(self, numbers: Sequence[int]) -> list[int]:
        """Returns the element-wise maximum over all workers. Every worker must call it."""
        if self.num_workers == 1:
            return list(numbers)
        return self._all_reduce_max(tf.constant([numbers], tf.int64)).numpy().tolist()

    def agree(self, number: int) -> bool:
        """Returns whether all workers give the same number. Every worker must call it.

        A worker that exits aborts the collective operations of the others. Workers that disagree therefore wait until
        all of them know, so that each can report it.
        """
        if self.all_reduce_max([number, -number]) == [number, -number]:
            return True
        with contextlib.suppress(tf.errors.OpError):
            self.all_reduce_max([0])
        return False

    @functools.cached_property
    def _all_reduce_max(self):
        @tf.function
        def reduce(numbers):
            gathered = self.strategy.gather(self.strategy.run(tf.identity, args=(numbers,)), axis=0)
            return tf.reduce_max(gathered, axis=0)

        return reduce


def connect(
    tpu: str = "",
    devices: str = "",
    tpu_zone: str | None = None,
    gcp_project: str | None = None,
    workers: bool = False,
) -> Devices:
    """Connects the devices. Call it before other TensorFlow code: initializing a TPU discards earlier state.

    Args:
        tpu: "local" on a TPU VM, the name or grpc:// address of a TPU, or "" for no TPU.
        devices: "cpu", "cpu:N" for N logical CPU devices (to try several replicas), "gpu" for all GPUs, or "" for all
            GPUs if there are any, else the CPU.
        tpu_zone: Cloud zone of a named TPU; None reads the machine's metadata.
        gcp_project: Cloud project of a named TPU; None reads the machine's metadata.
        workers: Whether this process is one of several workers if the environment variable TF_CONFIG is set. It then
            waits here for all workers. A TPU does not use TF_CONFIG.

    Raises:
        ConfigError: The requested TPU or GPU does not exist (there is no silent fallback to the CPU), or `devices` or
            TF_CONFIG is invalid.

    Example:
        >>> connect(devices="cpu").num_replicas
        1
    """
    if tpu and devices:
        raise ConfigError(f"--tpu={tpu} and --devices={devices} exclude each other; use one")
    cluster = _find_cluster() if workers and not tpu else None
    if tpu:
        chosen = _connect_tpu(tpu, tpu_zone, gcp_project)
    elif cluster:
        chosen = _connect_workers(cluster, devices)
    else:
        chosen = _connect_local(devices)
    # Layers choose their implementation by this target.
    layers.set_target(chosen.kind)
    return chosen


def _connect_tpu(tpu: str, zone: str | None, project: str | None) -> Devices:
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(tpu, zone=zone, project=project)
        if tpu != "local":
            tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
        strategy = tf.distribute.TPUStrategy(resolver)
    # Without a TPU, wheels raise NotFoundError or InternalError; an unknown name raises ValueError or OSError.
    except (tf.errors.OpError, ValueError, OSError) as error:
        raise ConfigError(
            f"--tpu={tpu}: no TPU found ({first_line(error)}); on a TPU VM install the extra [tpu] and use "
            "--tpu=local, elsewhere leave out --tpu to train on GPU or CPU"
        ) from error
    return Devices(strategy, "tpu", f"--tpu={tpu}", is_remote=tpu != "local")


def _find_cluster() -> tf.distribute.cluster_resolver.ClusterResolver | None:
    """Returns the workers that TF_CONFIG names, or None for a single one."""
    if not os.environ.get("TF_CONFIG"):
        return None
    example = '{"cluster": {"worker": ["host1:port", "host2:port"]}, "task": {"type": "worker", "index": 0}}'
    resolver = tf.distribute.cluster_resolver.TFConfigClusterResolver()
    try:
        jobs = resolver.cluster_spec().as_dict()
        kind, index = resolver.task_type, resolver.task_id
        here = jobs[kind][index]
    except (ValueError, TypeError, AttributeError, KeyError, IndexError) as error:
        raise ConfigError(f"TF_CONFIG is invalid ({first_line(error)}); write it like {example}") from error
    if others := {*jobs} - {"chief", "worker"}:
        raise ConfigError(
            f"TF_CONFIG has a job {min(others)!r} and this process is {kind} {index} at {here}; use only workers and a "
            "chief, and run `eval.py --follow` without TF_CONFIG to evaluate"
        )
    return resolver if sum(map(len, jobs.values())) > 1 else None


def _connect_workers(cluster: tf.distribute.cluster_resolver.ClusterResolver, devices: str) -> Devices:
    if devices not in ("", "cpu", "gpu"):
        raise ConfigError(
            f"--devices={devices} and TF_CONFIG exclude each other; a worker uses its GPUs, or one CPU device with "
            "--devices=cpu"
        )
    if devices == "cpu":
        tf.config.set_visible_devices([], "GPU")
    elif devices == "gpu":
        _find_gpus()
    jobs = cluster.cluster_spec().as_dict()
    kind, index = cluster.task_type, cluster.task_id
    print(f"{kind} {index} of TF_CONFIG is waiting for all {sum(map(len, jobs.values()))} workers", flush=True)
    try:
        strategy = tf.distribute.MultiWorkerMirroredStrategy(cluster_resolver=cluster)
    except (tf.errors.OpError, RuntimeError, ValueError) as error:
        raise ConfigError(
            f"{kind} {index} of TF_CONFIG cannot join the others from {jobs[kind][index]} ({first_line(error)}); "
            "free its port and start all workers"
        ) from error
    return Devices(
        strategy,
        "gpu" if tf.config.list_logical_devices("GPU") else "cpu",
        f"{kind} {index} of {sum(map(len, jobs.values()))} in TF_CONFIG",
        num_workers=sum(map(len, jobs.values())),
        is_chief=kind == "chief" or ("chief" not in jobs and index == 0),
    )


def _connect_local(devices: str) -> Devices:
    match = re.fullmatch(r"cpu(?::(\d+))?", devices)
    if devices not in ("", "gpu") and (match is None or match[1] == "0"):
        raise ConfigError(f"--devices={devices} is invalid; use cpu, cpu:N or gpu, or leave it out")
    if match:
        number = int(match[1] or 1)
        if number == 1:
            return Devices(tf.distribute.OneDeviceStrategy("/cpu:0"), "cpu", f"--devices={devices}")
        _split_cpu(number)
        names = [f"/cpu:{index}" for index in range(number)]
        return Devices(tf.distribute.MirroredStrategy(names), "cpu", f"--devices={devices}")
    gpus = _find_gpus() if devices else tf.config.list_physical_devices("GPU")
    if len(gpus) > 1:
        # Given device names, MirroredStrategy does not read TF_CONFIG.
        names = [f"/gpu:{index}" for index in range(len(gpus))]
        return Devices(tf.distribute.MirroredStrategy(names), "gpu", f"{len(gpus)} GPUs found")
    if gpus:
        return Devices(tf.distribute.OneDeviceStrategy("/gpu:0"), "gpu", "one GPU found")
    return Devices(tf.distribute.OneDeviceStrategy("/cpu:0"), "cpu", "no GPU found, no TPU requested")


def _find_gpus() -> list[tf.config.PhysicalDevice]:
    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        problem = "finds no GPU" if tf.test.is_built_with_cuda() else "is built without GPU support"
        raise ConfigError(
            f"--devices=gpu: TensorFlow {tf.__version__} {problem}; check that nvidia-smi lists one, and in a new "
            'environment run pip install -e ".[gpu]"'
        )
    return gpus


def _split_cpu(number: int) -> None:
    cpu = tf.config.list_physical_devices("CPU")[0]
    if len(tf.config.get_logical_device_configuration(cpu) or []) == number:
        return
    try:
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * number)
    except RuntimeError as error:
        raise ConfigError(
            f"--devices=cpu:{number}: TensorFlow has already created its devices; connect before using TensorFlow"
        ) from error
