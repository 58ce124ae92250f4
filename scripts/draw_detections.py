r"""Draws the predictions of a detector: each image with its true boxes, and with the detections and their scores.

    python scripts/draw_detections.py --workdir=runs/boxes --checkpoint=best --split=test --output=boxes.png

Each color is a class, named in a legend. Images are drawn as the network receives them.
"""

from absl import flags

from convzoo.cli import program
from convzoo.errors import ConfigError

program.define_checkpoint()
SPLIT = flags.DEFINE_string("split", None, "Split, such as test or train[:10%]. Default: config.data.eval_split.")
COUNT = flags.DEFINE_integer(
    "count", 4, "Number of images, from the start of the split.", lower_bound=1, upper_bound=64
)
MIN_SCORE = flags.DEFINE_float("min_score", 0.3, "Lowest score of a drawn detection.", lower_bound=0, upper_bound=1)
OUTPUT = flags.DEFINE_string("output", "detections.png", "PNG file to write.")
program.define_devices()


def main():
    devices = program.connect()
    from convzoo.tasks import get_task
    from convzoo.tasks.drawing import draw_boxes, first_images, write_png
    from convzoo.training import experiment
    from convzoo.training.inspection import Detections

    config = program.config_of_checkpoint()
    if config.task != "detection":
        raise ConfigError(f"config.task={config.task!r} has no boxes; use a detector")
    source, model, checkpoint = program.load_checkpoint(config, devices)
    settings, split = experiment.eval_settings(config), SPLIT.value or config.data.eval_split
    images, labels = first_images(source, split, COUNT.value, **settings)
    found = Detections(model, devices.strategy, get_task(config))(images)
    png = draw_boxes(
        images,
        {"truth": labels, "network": found},
        source.class_names,
        min_score=MIN_SCORE.value,
        mean=settings["mean"],
        std=settings["std"],
    )
    write_png(OUTPUT.value, png)
    print(f"{len(images)} images of {split}, {checkpoint}: written to {OUTPUT.value}")


if __name__ == "__main__":
    program.run(main)
