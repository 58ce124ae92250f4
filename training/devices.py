"""Which devices train: a Cloud TPU, GPUs, or the CPU."""

import dataclasses
import re

import tensorflow as tf

from convzoo import layers
from convzoo.training.config import ConfigError, first_line


@dataclasses.dataclass(frozen=True)
class Devices:
    """The strategy that runs each step, the kind of its devices ("tpu", "gpu" or "cpu"), and why it was chosen."""

    strategy: tf.distribute.Strategy
    kind: str
    reason: str

    @property
    def num_replicas(self) -> int:
        """Devices that share each batch."""
        return self.strategy.num_replicas_in_sync


def connect(tpu: str = "", devices: str = "", tpu_zone: str | None = None, gcp_project: str | None = None) -> Devices:
    """Connects the devices. Call it before anything else touches TensorFlow: a TPU forgets what came before.

    Args:
        tpu: "local" on a TPU VM, a TPU's name or grpc:// address, or "" for none.
        devices: "cpu" for the CPU alone, "cpu:N" for N logical CPU devices (to try out several replicas), or "" for
            all GPUs there are, else the CPU.
        tpu_zone: Cloud zone of a named TPU; None asks the machine's own metadata.
        gcp_project: Cloud project of a named TPU; likewise.

    Raises:
        ConfigError: A TPU was asked for and is not there (there is no silent CPU run), or `devices` cannot be read.
    """
    if tpu and devices:
        raise ConfigError(f"--tpu={tpu} and --devices={devices} exclude each other; give one")
    chosen = _connect_tpu(tpu, tpu_zone, gcp_project) if tpu else _connect_local(devices)
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
    return Devices(strategy, "tpu", f"--tpu={tpu}")


def _connect_local(devices: str) -> Devices:
    match = re.fullmatch(r"cpu(?::(\d+))?", devices)
    if devices and (match is None or match[1] == "0"):
        raise ConfigError(f"cannot read --devices={devices}; write cpu or cpu:N, or leave it out")
    if match:
        number = int(match[1] or 1)
        if number == 1:
            return Devices(tf.distribute.OneDeviceStrategy("/cpu:0"), "cpu", f"--devices={devices}")
        _split_cpu(number)
        names = [f"/cpu:{index}" for index in range(number)]
        return Devices(tf.distribute.MirroredStrategy(names), "cpu", f"--devices={devices}")
    gpus = tf.config.list_physical_devices("GPU")
    if len(gpus) > 1:
        return Devices(tf.distribute.MirroredStrategy(), "gpu", f"{len(gpus)} GPUs found")
    if gpus:
        return Devices(tf.distribute.OneDeviceStrategy("/gpu:0"), "gpu", "one GPU found")
    return Devices(tf.distribute.OneDeviceStrategy("/cpu:0"), "cpu", "no GPU found and no TPU asked for")


def _split_cpu(number: int) -> None:
    cpu = tf.config.list_physical_devices("CPU")[0]
    if len(tf.config.get_logical_device_configuration(cpu) or []) == number:
        return
    try:
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * number)
    except RuntimeError as error:
        raise ConfigError(f"--devices=cpu:{number} came too late: TensorFlow has its devices already") from error
