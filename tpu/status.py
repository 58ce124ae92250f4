"""State, health and endpoints of a Cloud TPU, queried with cloud-tpu-client (the extra [cloud])."""

import dataclasses
import time
from collections.abc import Callable

from convzoo.errors import ConfigError, UnavailableError, first_line

HEALTHY = "HEALTHY"


@dataclasses.dataclass(frozen=True)
class TpuStatus:
    """Status of a Cloud TPU; unknown strings are "".

    Attributes:
        name, state, health, accelerator, runtime: For example "READY", "HEALTHY", "v5litepod-8", "2.19.1".
        endpoints: "address:port" of each worker; empty before the TPU is ready.
        recoverable: False if the TPU was preempted or deleted and must be created again.
        symptoms: Problems that Google Cloud reports.
    """

    name: str
    state: str
    health: str
    accelerator: str
    runtime: str
    endpoints: tuple[str, ...]
    recoverable: bool
    symptoms: tuple[str, ...]


def make_client(tpu: str, zone: str | None, project: str | None, service=None):
    """Returns a `cloud_tpu_client.Client`.

    Args:
        tpu: Name of the TPU.
        zone, project: Google Cloud zone and project; None reads them from the machine's metadata.
        service: Replaces the Cloud TPU API in tests.

    Raises:
        ConfigError: cloud-tpu-client is not installed, or zone or project is unknown.
    """
    try:
        # Imported here because it is optional and defines a flag.
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
            f"zone and project of TPU {tpu!r} are not in this machine's metadata ({first_line(error)}); give "
            "--tpu_zone and --gcp_project"
        ) from error


def get_status(client) -> TpuStatus:
    """Returns the current status.

    Args:
        client: See `make_client`.

    Raises:
        ConfigError: The query failed, for example because the TPU does not exist or access is denied.
    """
    try:
        state = client.state() or ""
        endpoints = client.network_endpoints() if state == "READY" else ()
        return TpuStatus(
            client.name(),
            state,
            client.health() or "",
            client.accelerator_type() or "",
            client.runtime_version() or "",
            tuple(f"{endpoint['ipAddress']}:{endpoint['port']}" for endpoint in endpoints),
            client.recoverable(),
            tuple(f"{symptom['symptomType']} ({symptom['createTime']})" for symptom in client.symptoms() or ()),
        )
    except Exception as error:  # the client documents no exception types
        raise ConfigError(f"cannot query TPU {client.name()!r}: {first_line(error)}") from error


def wait_until_healthy(
    client,
    timeout: float,
    interval: float,
    log: Callable[[TpuStatus], None],
    sleep: Callable[[float], None] = time.sleep,
) -> TpuStatus:
    """Queries the status every `interval` seconds until the TPU is healthy.

    Args:
        client: See `make_client`.
        timeout, interval: Seconds.
        log: Called with every status.
        sleep: Replaces `time.sleep` in tests.

    Raises:
        ConfigError: See `get_status`.
        UnavailableError: The TPU is not recoverable, or not healthy within `timeout`.
    """
    waited = 0.0
    while True:
        status = get_status(client)
        log(status)
        if status.health == HEALTHY:
            return status
        if not status.recoverable:
            raise UnavailableError(f"TPU {status.name!r} is {status.state}; delete it and create it again")
        if waited >= timeout:
            raise UnavailableError(
                f"TPU {status.name!r} is not healthy after {timeout:.0f} s; check its status or raise --timeout"
            )
        sleep(interval)
        waited += interval
