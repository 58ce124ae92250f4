"""Runs a data server, which decodes and augments the images of training runs on other machines.

    scripts/data_service.sh --port=5050             # runs this in an environment with convzoo

Training runs connect with `config.data.service`. The server is a dispatcher of the tf.data service with one worker, so
that images arrive in the order in which one process produces them. It reads the data from the paths in the training's
config and stores nothing. SIGTERM or Ctrl-C ends it. It listens on all network interfaces without a password.
"""

import os
import re
import socket
import time

from absl import flags

from convzoo.cli import program
from convzoo.errors import ConfigError, first_line

PORT = flags.DEFINE_integer(
    "port", 5050, "Port of the dispatcher, to which training runs connect.", lower_bound=1, upper_bound=65535
)
WORKER_PORT = flags.DEFINE_integer(
    "worker_port", 0, "Port that sends the images, for firewalls; 0: any free port.", lower_bound=0, upper_bound=65535
)
HOST = flags.DEFINE_string(
    "host", None, "Name or address under which other machines reach this one. Default: its host name."
)

_ABANDONED = 60_000  # milliseconds after which the images of a lost training run are dropped


def main():
    import tensorflow as tf

    from convzoo.data.service import is_reachable
    from convzoo.training.signals import StopRequest

    host = _own_name() if HOST.value is None else HOST.value
    if not re.fullmatch(r"[\w.-]+|\[[0-9a-fA-F:.]+\]", host):
        raise ConfigError(f"--host={host} is not a host name or address; write IPv6 addresses in brackets")
    if WORKER_PORT.value == PORT.value:
        raise ConfigError(f"--port and --worker_port are both {PORT.value}; choose two ports")
    for name, port in (("port", PORT.value), ("worker_port", WORKER_PORT.value)):
        _check_free(name, port)
    # A training run on the same machine needs the GPUs.
    tf.config.set_visible_devices([], "GPU")
    service = tf.data.experimental.service
    servers = []  # a server stops when it is garbage-collected
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
            raise ConfigError(
                f"cannot start a server at --port={PORT.value} ({first_line(error)}); choose another port"
            ) from error
        address = f"{host}:{PORT.value}"
        if not is_reachable(address):
            raise ConfigError(
                f"this machine is not reachable as {address}; set --host to a name or address that other machines know"
            )
        print(f"data server at {address}; train with --config.data.service={address},...", flush=True)
        while request.number is None:
            time.sleep(0.2)
        # Stopping the servers would wait for training runs that wait for images, and there is nothing to save.
        os._exit(128 + request.number)


def _own_name():
    name = socket.getfqdn()
    # Some /etc/hosts files give the machine this name, which other machines cannot resolve.
    return socket.gethostname() if name.startswith("localhost") else name


def _check_free(name, port):
    """Raises ConfigError if a port is in use: TensorFlow's servers would share it with another process."""
    with socket.socket() as probe:
        # Without this option, Linux keeps a port busy for a minute after a server has left it.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError as error:
            raise ConfigError(f"--{name}={port} is not available ({error.strerror}); choose another port") from error


if __name__ == "__main__":
    program.run(main)
