"""Which devices train: a Cloud TPU, the GPUs of one machine or of several, or the CPU."""

import dataclasses
import functools
import os
import re
from collections.abc import Sequence

import tensorflow as tf

from convzoo import layers
from convzoo.training.config import ConfigError, first_line


@dataclasses.dataclass(frozen=True)
class Devices:
    """The devices that share each batch.

    Attributes:
        strategy: Runs each step.
        kind: "tpu", "gpu" or "cpu".
        reason: Why they were chosen.
        num_workers: Processes, one a machine, that run the same program; one process drives all of a TPU.
        is_chief: Whether this is the one of them that writes and tells.
        is_far: Whether they are driven from afar: a TPU by its name, whose own machines then make the batches.
    """

    strategy: tf.distribute.Strategy
    kind: str
    reason: str
    num_workers: int = 1
    is_chief: bool = True
    is_far: bool = False

    @property
    def num_replicas(self) -> int:
        """Devices that share each batch."""
        return self.strategy.num_replicas_in_sync

    def makes_batches(self, context: tf.distribute.InputContext) -> bool:
        """Whether a data set of this context runs in this process, where TensorFlow can call Python."""
        return not self.is_far and context.num_input_pipelines == self.num_workers

    def largest(self, numbers: Sequence[int]) -> list[int]:
        """The largest that any worker gives, number by number. All workers have to call it."""
        if self.num_workers == 1:
            return list(numbers)
        return self._largest(tf.constant([numbers], tf.int64)).numpy().tolist()

    @functools.cached_property
    def _largest(self):
        @tf.function
        def largest(mine):
            of_all = self.strategy.gather(self.strategy.run(tf.identity, args=(mine,)), axis=0)
            return tf.reduce_max(of_all, axis=0)

        return largest


def connect(
    tpu: str = "",
    devices: str = "",
    tpu_zone: str | None = None,
    gcp_project: str | None = None,
    workers: bool = False,
) -> Devices:
    """Connects the devices. Call it before anything else touches TensorFlow: a TPU forgets what came before.

    Args:
        tpu: "local" on a TPU VM, a TPU's name or grpc:// address, or "" for none.
        devices: "cpu" for the CPU alone, "cpu:N" for N logical CPU devices (to try out several replicas), "gpu" for
            all GPUs, or "" for all GPUs there are, else the CPU.
        tpu_zone: Cloud zone of a named TPU; None asks the machine's own metadata.
        gcp_project: Cloud project of a named TPU; likewise.
        workers: Whether this is one of the processes that the environment variable TF_CONFIG tells of, if it is set:
            then it waits here until all of them have come. A TPU that is asked for has no need of it.

    Raises:
        ConfigError: A TPU or GPU was asked for and is not there (there is no silent CPU run), or `devices` or TF_CONFIG
            cannot be read.
    """
    if tpu and devices:
        raise ConfigError(f"--tpu={tpu} and --devices={devices} exclude each other; give one")
    cluster = _find_cluster() if workers and not tpu else None
    if tpu:
        chosen = _connect_tpu(tpu, tpu_zone, gcp_project)
    elif cluster:
        chosen = _connect_workers(cluster, devices)
    else:
        chosen = _connect_local(devices)
    # The layers choose how they compute by the device; they never guess it.
    layers.set_target(chosen.kind)
    return chosen


def _connect_tpu(tpu: str, zone: str | None, project: str | None) -> Devices:
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(tpu, zone=zone, project=project)
        if tpu != "local":
            tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
        strategy = tf.distribute.TPUStrategy(resolver)
    # NotFoundError or InternalError without a TPU, by wheel; ValueError or OSError where the name leads nowhere.
    except (tf.errors.OpError, ValueError, OSError) as error:
        raise ConfigError(
            f"--tpu={tpu}: no TPU there ({first_line(error)}); on a TPU VM install the extra [tpu] and use "
            "--tpu=local, elsewhere leave --tpu out to train on GPU or CPU"
        ) from error
    return Devices(strategy, "tpu", f"--tpu={tpu}", is_far=tpu != "local")


def _find_cluster() -> tf.distribute.cluster_resolver.ClusterResolver | None:
    """What TF_CONFIG tells of several workers, or None."""
    if not os.environ.get("TF_CONFIG"):
        return None
    example = '{"cluster": {"worker": ["host1:port", "host2:port"]}, "task": {"type": "worker", "index": 0}}'
    resolver = tf.distribute.cluster_resolver.TFConfigClusterResolver()
    try:
        jobs = resolver.cluster_spec().as_dict()
        kind, index = resolver.task_type, resolver.task_id
        here = jobs[kind][index]
    except (ValueError, TypeError, AttributeError, KeyError, IndexError) as error:
        raise ConfigError(f"TF_CONFIG cannot be read ({first_line(error)}); write as in {example}") from error
    if others := {*jobs} - {"chief", "worker"}:
        raise ConfigError(
            f"TF_CONFIG has a job {min(others)!r} and this is {kind} {index} at {here}; a training has workers and a "
            "chief alone, and `eval.py --follow` evaluates beside it, without TF_CONFIG"
        )
    return resolver if sum(map(len, jobs.values())) > 1 else None


def _connect_workers(cluster: tf.distribute.cluster_resolver.ClusterResolver, devices: str) -> Devices:
    if devices not in ("", "cpu", "gpu"):
        raise ConfigError(
            f"--devices={devices} and TF_CONFIG exclude each other: each worker has its GPUs, or one CPU device with "
            "--devices=cpu"
        )
    if devices == "cpu":
        tf.config.set_visible_devices([], "GPU")
    elif devices == "gpu":
        _find_gpus()
    jobs = cluster.cluster_spec().as_dict()
    kind, index = cluster.task_type, cluster.task_id
    print(f"{kind} {index} of TF_CONFIG waits for all {sum(map(len, jobs.values()))} workers", flush=True)
    try:
        strategy = tf.distribute.MultiWorkerMirroredStrategy(cluster_resolver=cluster)
    except (tf.errors.OpError, RuntimeError, ValueError) as error:
        raise ConfigError(
            f"{kind} {index} of TF_CONFIG cannot join the others at {jobs[kind][index]} ({first_line(error)}); its "
            "port has to be free, and all workers have to be started"
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
        raise ConfigError(f"cannot read --devices={devices}; write cpu, cpu:N or gpu, or leave it out")
    if match:
        number = int(match[1] or 1)
        if number == 1:
            return Devices(tf.distribute.OneDeviceStrategy("/cpu:0"), "cpu", f"--devices={devices}")
        _split_cpu(number)
        names = [f"/cpu:{index}" for index in range(number)]
        return Devices(tf.distribute.MirroredStrategy(names), "cpu", f"--devices={devices}")
    gpus = _find_gpus() if devices else tf.config.list_physical_devices("GPU")
    if len(gpus) > 1:
        # By name: without, the strategy would look for devices in TF_CONFIG.
        names = [f"/gpu:{index}" for index in range(len(gpus))]
        return Devices(tf.distribute.MirroredStrategy(names), "gpu", f"{len(gpus)} GPUs found")
    if gpus:
        return Devices(tf.distribute.OneDeviceStrategy("/gpu:0"), "gpu", "one GPU found")
    return Devices(tf.distribute.OneDeviceStrategy("/cpu:0"), "cpu", "no GPU found and no TPU asked for")


def _find_gpus() -> list[tf.config.PhysicalDevice]:
    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        built = "finds none" if tf.test.is_built_with_cuda() else "is built without them"
        raise ConfigError(
            f"--devices=gpu: TensorFlow {tf.__version__} {built}; see whether nvidia-smi lists one, and in a new "
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
        raise ConfigError(f"--devices=cpu:{number} came too late: TensorFlow has its devices already") from error
