"""Serves the TPU chips of this host to a training on another host, for slices of several hosts on GKE.

    python scripts/tpu_server.py --port=8470

It runs on every host of the slice. The training lists them: --tpu=grpc://host1:8470,grpc://host2:8470. The server
listens on all network interfaces without a password. SIGTERM or Ctrl-C ends it.
"""

import time

from absl import flags

from convzoo.cli import program
from convzoo.errors import ConfigError, first_line

PORT = flags.DEFINE_integer("port", 8470, "Port of the server.", lower_bound=1, upper_bound=65535)


def main():
    import tensorflow as tf

    from convzoo.training.signals import Interrupted, StopRequest

    try:
        # The job is called as in start_grpc_tpu_worker of the tensorflow-tpu wheel.
        server = tf.distribute.Server({"tpu_worker": [f"localhost:{PORT.value}"]}, job_name="tpu_worker")
    except (tf.errors.OpError, RuntimeError) as error:
        raise ConfigError(
            f"cannot start a server at --port={PORT.value} ({first_line(error)}); choose another port"
        ) from error
    print(f"serving at {server.target}", flush=True)
    number = None
    while number is None:  # server.join() would not see signals
        # Entered again and again, because TensorFlow replaces the handler of SIGTERM when a training connects.
        with StopRequest() as request:
            time.sleep(0.5)
        number = request.number
    raise Interrupted(number)


if __name__ == "__main__":
    program.run(main)
