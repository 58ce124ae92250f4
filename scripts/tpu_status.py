r"""Prints state, health and endpoints of a Cloud TPU; with --wait, repeatedly until it is healthy.

    pip install -e ".[cpu,cloud]"     # in one command: installed later, cloud-tpu-client can break TensorFlow
    python scripts/tpu_status.py --tpu=my-tpu --tpu_zone=us-central1-a --gcp_project=my-project --wait

cloud-tpu-client uses version 1 of the Cloud TPU API. Exit status: 0 if the TPU is healthy, 1 if it is not, 2 if its
status is unknown.
"""

import sys

from absl import flags

from convzoo.cli import program

TPU = flags.DEFINE_string("tpu", None, "Name of the TPU.")
ZONE = flags.DEFINE_string("tpu_zone", None, "Its zone. Default: that of this machine.")
PROJECT = flags.DEFINE_string("gcp_project", None, "Its project. Default: that of this machine.")
WAIT = flags.DEFINE_bool("wait", False, "Repeat the query until the TPU is healthy.")
TIMEOUT = flags.DEFINE_float("timeout", 1200.0, "With --wait: longest time to wait, in seconds.", lower_bound=0)
INTERVAL = flags.DEFINE_float("interval", 30.0, "With --wait: time between queries, in seconds.", lower_bound=1)


def main():
    program.require("tpu")
    from convzoo.tpu import status

    client = status.make_client(TPU.value, ZONE.value, PROJECT.value)
    if WAIT.value:
        status.wait_until_healthy(client, TIMEOUT.value, INTERVAL.value, _print_status)
        return
    current = status.get_status(client)
    _print_status(current)
    sys.exit(0 if current.health == status.HEALTHY else 1)


def _print_status(status):
    parts = [f"{status.name}: {status.state or 'state unknown'}, {status.health or 'health unknown'}"]
    parts += [part for part in (status.accelerator, status.runtime, *status.endpoints, *status.symptoms) if part]
    if not status.recoverable:
        parts.append("must be created again")
    print(", ".join(parts), flush=True)


if __name__ == "__main__":
    program.run(main)
