"""Trains an experiment.

    python train.py --config=configs/quickstart.py --workdir=runs/quickstart

`--config=FILE:VARIANT` selects a variant, `--config.optimizer.learning_rate=0.1` overrides a field. The same command
resumes an interrupted run.
"""

from absl import flags
from ml_collections import config_flags

from convzoo.cli import program

config_flags.DEFINE_config_file("config", None, "The experiment, such as configs/quickstart.py or FILE:VARIANT.")
WORKDIR = flags.DEFINE_string("workdir", None, "Folder of this run, local or gs://.")
MODE = flags.DEFINE_enum(
    "mode",
    "train_and_eval",
    ["train_and_eval", "train"],
    "train_and_eval also evaluates; train leaves that to `eval.py --follow`.",
)
PROFILE = flags.DEFINE_string("profile", None, "FROM:TO, two steps between which to record a TensorBoard profile.")
program.define_devices()


def main():
    config = program.config()
    program.require("workdir")
    from convzoo.configs.schema import validate
    from convzoo.training.profile import parse_steps

    validate(config, num_replicas=1)  # reports most mistakes before the devices are connected, which can take minutes
    profile = parse_steps(PROFILE.value) if PROFILE.value else None
    devices = program.connect(workers=True)
    from convzoo.training.loop import train

    train(config, WORKDIR.value, devices, evaluate=MODE.value == "train_and_eval", profile=profile)


if __name__ == "__main__":
    program.run(main)
