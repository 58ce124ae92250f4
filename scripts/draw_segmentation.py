r"""Draws the predictions of a segmentation network: each image with its true and its predicted label map.

    python scripts/draw_segmentation.py --workdir=runs/shapes --checkpoint=best --split=test --output=shapes.png

Each color is a class, named in a legend; unlabeled pixels are white. Images are drawn as the network receives them.
"""

from absl import flags

from convzoo.cli import program
from convzoo.errors import ConfigError

program.define_checkpoint()
SPLIT = flags.DEFINE_string("split", None, "Split, such as test or train[:10%]. Default: config.data.eval_split.")
COUNT = flags.DEFINE_integer(
    "count", 4, "Number of images, from the start of the split.", lower_bound=1, upper_bound=64
)
OUTPUT = flags.DEFINE_string("output", "segmentation.png", "PNG file to write.")
program.define_devices()


def main():
    devices = program.connect()
    import tensorflow as tf

    from convzoo.tasks import get_task
    from convzoo.tasks.drawing import draw_label_maps, first_images, write_png
    from convzoo.training import experiment

    config = program.config_of_checkpoint()
    if config.task != "segmentation":
        raise ConfigError(f"config.task={config.task!r} has no label maps; use a segmentation network")
    source, model, checkpoint = program.load_checkpoint(config, devices)
    settings, split = experiment.eval_settings(config), SPLIT.value or config.data.eval_split
    images, labels = first_images(source, split, COUNT.value, **settings)
    task = get_task(config)
    predictions = tf.argmax(tf.function(lambda images: task.predict(model, images))(images), -1).numpy()
    png = draw_label_maps(
        images,
        {"truth": labels, "network": predictions},
        {"truth": source.num_classes, "network": source.num_classes},
        mean=settings["mean"],
        std=settings["std"],
        names=source.class_names,
    )
    write_png(OUTPUT.value, png)
    print(f"{len(images)} images of {split}, {checkpoint}: written to {OUTPUT.value}")


if __name__ == "__main__":
    program.run(main)
