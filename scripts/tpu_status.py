r"""Prints what Google Cloud says of a TPU: state, health, endpoints; with --wait as often as it takes to be healthy.

    pip install -e ".[cpu,cloud]"          # in one command: installed later, the client may break TensorFlow
    python scripts/tpu_status.py --tpu=my-tpu --tpu_zone=us-central1-a --gcp_project=my-project --wait

The client is Google's cloud-tpu-client, which knows the older interface of Cloud TPUs, v1. Exit status 0 if the TPU is
healthy, 1 if it is not, 2 if nothing can be said.
"""

import sys

from absl import flags

from convzoo.training import program

TPU = flags.DEFINE_string("tpu", None, "The TPU's name.")
ZONE = flags.DEFINE_string("tpu_zone", None, "Its zone; default: this machine's.")
PROJECT = flags.DEFINE_string("gcp_project", None, "Its project; default: this machine's.")
WAIT = flags.DEFINE_bool("wait", False, "Ask again until it is healthy.")
TIMEOUT = flags.DEFINE_float("timeout", 1200.0, "Seconds to wait at most.", lower_bound=0)
INTERVAL = flags.DEFINE_float("interval", 30.0, "Seconds between two looks.", lower_bound=1)


def main():
    program.require("tpu")
    from convzoo.training import tpu_status

    client = tpu_status.client(TPU.value, ZONE.value, PROJECT.value)
    if WAIT.value:
        try:
            tpu_status.wait_until_healthy(client, TIMEOUT.value, INTERVAL.value, _show)
        except tpu_status.NotHealthyError as error:
            print(f"tpu_status.py: {error}", file=sys.stderr)
            sys.exit(1)
        return
    status = tpu_status.look(client)
    _show(status)
    sys.exit(0 if status.health == tpu_status.HEALTHY else 1)


def _show(status):
    """One line for each look."""
    parts = [f"{status.name}: {status.state or 'state unknown'}, {status.health or 'health unknown'}"]
    parts += [part for part in (status.accelerator, status.runtime, *status.endpoints, *status.symptoms) if part]
    if not status.recoverable:
        parts.append("has to be made anew")
    print(", ".join(parts), flush=True)


if __name__ == "__main__":
    program.run(main)
