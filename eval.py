"""Evaluates a run's checkpoint on any split: the figures of its task over every example, each counted exactly once.

    python eval.py --workdir=runs/quickstart --checkpoint=best --split=test

The experiment is read from the workdir. A JSON record goes to WORKDIR/evaluations, a table to the terminal. With
--follow every checkpoint of a running training is evaluated as it appears. Weights without a run, imported ones say
(the record goes beside them):

    python eval.py --checkpoint=efficientnet_b0.weights.h5 --source=tfds:imagenet2012 --split=validation
"""

import tabulate
from absl import flags

from convzoo.training import program

program.define_checkpoint()
SPLIT = flags.DEFINE_string("split", None, "As test or train[:10%]; default: the experiment's evaluation split.")
BATCH_SIZE = flags.DEFINE_integer("batch_size", None, "Over all replicas; default: the experiment's.", lower_bound=1)
OUTPUT = flags.DEFINE_string("output", None, "The JSON record; default: in WORKDIR/evaluations, or beside the weights.")
FOLLOW = flags.DEFINE_bool("follow", False, "Evaluate checkpoints as they appear, until the training's last step.")
TIMEOUT = flags.DEFINE_float("timeout", None, "With --follow: seconds to wait for a checkpoint before giving up.")
program.define_devices()


def main():
    devices = program.connect()
    from convzoo.configs import base
    from convzoo.training.assessment import Assessor, find_checkpoint
    from convzoo.training.config import ConfigError

    assessor = Assessor(
        program.experiment(base.get_config()),
        flags.FLAGS.workdir,
        devices,
        SPLIT.value,
        weights=flags.FLAGS.weights,
        batch_size=BATCH_SIZE.value,
    )
    if FOLLOW.value and OUTPUT.value:
        raise ConfigError("--follow writes one record a checkpoint; leave out --output")
    if FOLLOW.value and not flags.FLAGS.workdir:
        raise ConfigError("--follow is for the workdir of a run; leave it out")
    if FOLLOW.value:
        records = assessor.follow(TIMEOUT.value)
    else:
        records = [assessor.assess(find_checkpoint(flags.FLAGS.workdir, flags.FLAGS.checkpoint))]
    for record in records:
        written = assessor.write(record, OUTPUT.value)
        row = {
            "step": "" if record["step"] is None else record["step"],
            "weights": record["weights"],
            "split": record["split"],
            "examples": record["examples"],
            **assessor.task.columns(record),
        }
        print(tabulate.tabulate([row], headers="keys", disable_numparse=True), flush=True)
        print(f"written to {written}", flush=True)


if __name__ == "__main__":
    program.run(main)
