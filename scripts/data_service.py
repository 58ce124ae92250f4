"""A data server: decodes and augments the images of trainings that run elsewhere, see `config.data.service`.

    scripts/data_service.sh --port=5050             # makes sure of an environment, and runs this there

It is a dispatcher of tf.data's service with one worker, so that images come in the order in which one process makes
them. It serves any trainings, reads their data by the paths that they name, keeps nothing, and ends with SIGTERM or
Ctrl-C. It listens on all networks of the machine and asks nobody for a password.
"""

import os
import re
import socket
import time

from absl import flags

from convzoo.cli import program
from convzoo.errors import ConfigError, first_line

PORT = flags.DEFINE_integer("port", 5050, "Where trainings find it.", lower_bound=1, upper_bound=65535)
WORKER_PORT = flags.DEFINE_integer(
    "worker_port", 0, "Where they fetch images, for firewalls; 0: any free one.", lower_bound=0, upper_bound=65535
)
HOST = flags.DEFINE_string("host", None, "The name or address by which they reach this machine; default: its name.")

_ABANDONED = 60_000  # milliseconds after which the images of a training that is gone are given up


def main():
    import tensorflow as tf

    from convzoo.data.service import is_reachable
    from convzoo.training.signals import StopRequest

    host = _own_name() if HOST.value is None else HOST.value
    if not re.fullmatch(r"[\w.-]+|\[[0-9a-fA-F:.]+\]", host):
        raise ConfigError(f"--host={host} is no name of a machine; give its name or address, one of IPv6 in brackets")
    if WORKER_PORT.value == PORT.value:
        raise ConfigError(f"--port and --worker_port are both {PORT.value}; choose two ports")
    for name, port in (("port", PORT.value), ("worker_port", WORKER_PORT.value)):
        _check_free(name, port)
    # They are for trainings, of which one may run beside this.
    tf.config.set_visible_devices([], "GPU")
    service = tf.data.experimental.service
    servers = []  # which serve for as long as something holds them
    with StopRequest() as request:
        try:
            servers.append(
                service.DispatchServer(
                    service.DispatcherConfig(
                        port=PORT.value, job_gc_check_interval_ms=_ABANDONED // 2, job_gc_timeout_ms=_ABANDONED
                    )
                )
            )
            servers.append(
                service.WorkerServer(
                    service.WorkerConfig(
                        dispatcher_address=f"localhost:{PORT.value}",
                        worker_address=f"{host}:%port%",
                        port=WORKER_PORT.value,
                    )
                )
            )
        except (tf.errors.OpError, RuntimeError) as error:
            raise ConfigError(f"cannot serve at --port={PORT.value} ({first_line(error)}); choose another") from error
        address = f"{host}:{PORT.value}"
        if not is_reachable(address):
            raise ConfigError(f"this machine is not reached as {address}; give --host, its name or address for others")
        print(f"data server at {address}; train with --config.data.service={address},...", flush=True)
        while request.number is None:
            time.sleep(0.2)
        # There is nothing to save, and a stop in good order waits for trainings that wait for images.
        os._exit(128 + request.number)


def _own_name():
    name = socket.getfqdn()
    # So the file of hosts calls some machines too, which means nothing to others.
    return socket.gethostname() if name.startswith("localhost") else name


def _check_free(name, port):
    """Stops where somebody listens at a port: TensorFlow's servers would share it with him, and with each other."""

    with socket.socket() as probe:
        # A port that another server has just left is free, and Linux holds it for a minute without this.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError as error:
            raise ConfigError(f"--{name}={port} cannot be had ({error.strerror}); choose another") from error


if __name__ == "__main__":
    program.run(main)
