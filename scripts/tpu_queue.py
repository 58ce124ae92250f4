r"""Trains on Cloud TPUs that it requests as a queued resource, and deletes them at the end.

    python scripts/tpu_queue.py --name=my-run --zone=us-central1-a --accelerator_type=v5litepod-8 --spot -- \
        --config=configs/efficientnet_condconv_imagenet.py:b0_8e --workdir=gs://my-bucket/b0_8e

The flags of train.py follow --. With --spot, preempted TPUs are requested again and the training resumes from its
newest checkpoint. Ctrl-C deletes the TPUs; files in gs:// remain. Exit status: 0 if the training reached its last
step, 1 if it failed or TPUs were not available, 2 for invalid flags or a name that exists.
"""

import contextlib
import time
from collections.abc import Sequence

from absl import flags

from convzoo.cli import program
from convzoo.errors import ConfigError

NAME = flags.DEFINE_string("name", None, "Name of the queued resource and its TPU; it must not exist.")
ZONE = flags.DEFINE_string("zone", None, "Cloud zone.")
PROJECT = flags.DEFINE_string("project", None, "Cloud project. Default: that of gcloud.")
TYPE = flags.DEFINE_string("accelerator_type", "v5litepod-8", "Type and size of a TPU slice.")
VERSION = flags.DEFINE_string("runtime_version", "v2-alpha-tpuv5-lite", "Image of the hosts; it must match the type.")
SPOT = flags.DEFINE_bool("spot", False, "Cheaper TPUs, which may be preempted and are then requested again.")
VALID = flags.DEFINE_string(
    "valid_until_duration", None, "How long to wait for each request, as 6h. Default: no limit."
)
COUNT = flags.DEFINE_integer(
    "node_count",
    1,
    "Number of slices; each runs its own training, whose flags have its index for {node}.",
    lower_bound=1,
)
POLL = flags.DEFINE_float("poll", 60.0, "Seconds between queries.", lower_bound=0)


def main(arguments: Sequence[str]):
    program.require("name", "zone", "accelerator_type", "runtime_version")
    from convzoo.tpu import queued_resource

    _check_config(arguments)
    request = queued_resource.Request(
        NAME.value,
        ZONE.value,
        TYPE.value,
        VERSION.value,
        PROJECT.value,
        SPOT.value,
        VALID.value,
        COUNT.value,
    )
    queued_resource.train(request, arguments, POLL.value, _log)


def _check_config(arguments):
    """Finds mistakes in the config before a TPU is requested, which can take hours."""
    from convzoo.configs.schema import validate
    from convzoo.tpu import queued_resource

    paths = [argument.removeprefix("--config=") for argument in arguments if argument.startswith("--config=")]
    if not paths:
        raise ConfigError("--config=... of train.py is missing; write the flags of train.py after --")
    overrides = [argument.removeprefix("--") for argument in arguments if argument.startswith("--config.")]
    for index in range(COUNT.value):
        of_node = [override.replace(queued_resource.NODE, str(index)) for override in overrides]
        validate(program.read_config(paths[-1], of_node), num_replicas=1)


def _log(message):
    # A closed terminal must not prevent the deletion.
    with contextlib.suppress(OSError):
        print(time.strftime("%F %T"), message, flush=True)


if __name__ == "__main__":
    program.run(main)
