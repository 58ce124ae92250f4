"""What Google Cloud says of a TPU: state, health, endpoints. By cloud-tpu-client, which is the extra [cloud]."""

import dataclasses
import time
from collections.abc import Callable

from convzoo.training.config import ConfigError, first_line

HEALTHY = "HEALTHY"


class NotHealthyError(RuntimeError):
    """A TPU that does not come back, or not in time: one line."""


@dataclasses.dataclass(frozen=True)
class TpuStatus:
    """A TPU as Google Cloud sees it; what it does not tell is "".

    Attributes:
        name, state, health, accelerator, runtime: As "READY", "HEALTHY", "v5litepod-8", "2.19.1".
        endpoints: "address:port" of each worker; none before the TPU is ready.
        recoverable: False if it was preempted or deleted: it has to be made anew.
        symptoms: What is wrong with it, as Google Cloud writes it.
    """

    name: str
    state: str
    health: str
    accelerator: str
    runtime: str
    endpoints: tuple[str, ...]
    recoverable: bool
    symptoms: tuple[str, ...]


def client(tpu: str, zone: str | None, project: str | None, service=None):
    """A `cloud_tpu_client.Client`.

    Args:
        tpu: The TPU's name.
        zone, project: Of Google Cloud; None asks the machine's own metadata.
        service: In the place of the Cloud TPU API, for tests.

    Raises:
        ConfigError: cloud-tpu-client is not installed, or zone and project are found nowhere.
    """
    try:
        # Here, because it defines a flag and is an extra.
        import cloud_tpu_client
    except ImportError as error:
        raise ConfigError(
            f"cloud-tpu-client cannot be imported ({first_line(error)}); install it together with TensorFlow, in one "
            "command: pip install -e '.[cpu,cloud]'"
        ) from error
    try:
        return cloud_tpu_client.Client(tpu, zone, project, service=service)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"zone and project of TPU {tpu!r} are not told by this machine ({first_line(error)}); give --tpu_zone and "
            "--gcp_project"
        ) from error


def look(of) -> TpuStatus:
    """What Google Cloud says now.

    Args:
        of: A `client`.

    Raises:
        ConfigError: It says nothing: no such TPU, or no leave to ask.
    """
    try:
        state = of.state() or ""
        endpoints = of.network_endpoints() if state == "READY" else ()
        return TpuStatus(
            of.name(),
            state,
            of.health() or "",
            of.accelerator_type() or "",
            of.runtime_version() or "",
            tuple(f"{endpoint['ipAddress']}:{endpoint['port']}" for endpoint in endpoints),
            of.recoverable(),
            tuple(f"{symptom['symptomType']} ({symptom['createTime']})" for symptom in of.symptoms() or ()),
        )
    except Exception as error:  # the client wraps what Google's libraries raise, whatever that is
        raise ConfigError(f"Google Cloud tells nothing of TPU {of.name()!r}: {first_line(error)}") from error


def wait_until_healthy(
    of, timeout: float, interval: float, tell: Callable[[TpuStatus], None], sleep: Callable[[float], None] = time.sleep
) -> TpuStatus:
    """Looks every `interval` seconds until the TPU is healthy, and tells of each look.

    Args:
        of: A `client`.
        timeout, interval: Seconds.
        tell: Is called with every status.
        sleep: In the place of `time.sleep`, for tests.

    Raises:
        ConfigError: As `look` does.
        NotHealthyError: The TPU has to be made anew, or was not healthy in time.
    """
    waited = 0.0
    while True:
        status = look(of)
        tell(status)
        if status.health == HEALTHY:
            return status
        if not status.recoverable:
            raise NotHealthyError(
                f"TPU {status.name!r} is {status.state} and does not come back; delete it and make it anew"
            )
        if waited >= timeout:
            raise NotHealthyError(
                f"TPU {status.name!r} was not healthy within {timeout:.0f} s; raise --timeout or look why"
            )
        sleep(interval)
        waited += interval
