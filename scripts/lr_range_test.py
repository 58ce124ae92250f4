"""Finds a learning rate: a short training whose learning rate grows in each step, and the loss at each rate.

    python scripts/lr_range_test.py --config=configs/quickstart.py --output=lr_range.json --plot=lr_range.png

Suggests the rate at which the smoothed loss falls fastest, as fastai's `lr_find` does. The training starts from the
initial weights of the experiment and writes no checkpoint. Learning rate, schedule and moving average of the
experiment have no effect; its optimizer, batch size, augmentation and everything else have.
"""

import dataclasses
import json

from absl import flags
from ml_collections import config_flags

from convzoo.cli import program
from convzoo.errors import ConfigError

config_flags.DEFINE_config_file("config", None, "The experiment, such as configs/quickstart.py or FILE:VARIANT.")
START = flags.DEFINE_float("start_lr", 1e-7, "Learning rate of the first step.")
END = flags.DEFINE_float("end_lr", 10.0, "Learning rate of the last step.")
STEPS = flags.DEFINE_integer("steps", 100, "Number of steps.", lower_bound=20)
OUTPUT = flags.DEFINE_string("output", "lr_range.json", "JSON file for learning rates, losses and the suggestion.")
PLOT = flags.DEFINE_string("plot", "lr_range.png", "PNG file to write.")
program.define_devices()


def main():
    config = program.config()
    if not 0 < START.value < END.value < float("inf"):
        raise ConfigError(f"--start_lr={START.value} and --end_lr={END.value}: use 0 < start_lr < end_lr")
    from convzoo.configs.schema import validate

    validate(config, num_replicas=1)
    program.check_folder(OUTPUT.value)
    program.check_folder(PLOT.value, "plot")
    devices = program.connect()
    from convzoo.cli.plots import plot_lr_range
    from convzoo.tasks.drawing import write_png
    from convzoo.training.lr_range_test import lr_range_test

    result = lr_range_test(config, devices, start_lr=START.value, end_lr=END.value, num_steps=STEPS.value)
    if not result.losses:
        raise ConfigError(f"the loss of the first step is not finite at --start_lr={START.value}; use a lower one")
    program.write_output(OUTPUT.value, json.dumps(dataclasses.asdict(result), indent=2) + "\n")
    curves = (result.learning_rates, result.losses, result.smoothed_losses)
    write_png(PLOT.value, plot_lr_range(*curves, result.suggestion), flag="plot")
    print(f"{len(result.losses)} steps: written to {OUTPUT.value} and {PLOT.value}")
    if result.suggestion is None:
        print("no suggestion: the loss does not fall, or too few steps were made before it diverged")
    else:
        print(f"suggestion: config.optimizer.learning_rate={result.suggestion:.3g}")


if __name__ == "__main__":
    program.run(main)
