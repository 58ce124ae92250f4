"""Draws the batches that the network receives in training: the first augmented images of an epoch, with class names.

    python scripts/show_batch.py --config=configs/quickstart.py --config.data.mixup=0.2 --output=batch.png

The images have the order and the random augmentation of the training run. The title of a mixed image has both classes
and their shares; its partner can differ from the training run, where it depends on the batch size. A label map
is drawn beside its image, boxes are drawn on it.
"""

import math

from absl import flags
from ml_collections import config_flags

from convzoo.cli import program

config_flags.DEFINE_config_file("config", None, "The experiment, as configs/quickstart.py or FILE:VARIANT.")
COUNT = flags.DEFINE_integer("count", 16, "Number of images.", lower_bound=1, upper_bound=128)
EPOCH = flags.DEFINE_integer("epoch", 0, "Epoch whose first images are drawn, from 0.", lower_bound=0)
OUTPUT = flags.DEFINE_string("output", "batch.png", "PNG file to write.")


def main():
    config = program.config()
    import tensorflow as tf

    from convzoo import data
    from convzoo.configs.schema import validate
    from convzoo.data.service import parse_addresses
    from convzoo.tasks import drawing
    from convzoo.training import experiment

    validate(config, num_replicas=1)
    source, settings = experiment.open_source(config), experiment.train_settings(config)
    settings["augmentation"].check(source.label_kind)
    data.check_servers(config.data.service)
    split, repeats = config.data.train_split, config.data.repeated_augmentation
    first = EPOCH.value * source.num_examples(split)
    # In a smaller batch an image could be mixed with itself.
    step = 2 * repeats * max(len(parse_addresses(config.data.service)), 1)
    batches = data.train_dataset(
        source,
        split,
        batch_size=math.ceil(COUNT.value / step) * step,
        first_example=first - first % repeats,
        **settings,
    )
    with data.reraise_data_errors():
        batch = next(iter(batches))
    images, labels = tf.nest.map_structure(lambda x: x.numpy()[: COUNT.value], (batch["image"], batch["label"]))
    normalization = {"mean": settings["mean"], "std": settings["std"]}
    if source.label_kind == "boxes":
        image = drawing.draw_boxes(images, {"boxes": labels}, source.class_names, **normalization)
    elif source.label_kind == "map":
        numbers = {"labels": source.num_classes}
        image = drawing.draw_label_maps(images, {"labels": labels}, numbers, names=source.class_names, **normalization)
    else:
        image = drawing.draw_grid(images, drawing.label_titles(labels, source.class_names), **normalization)
    drawing.write_png(OUTPUT.value, image)
    print(f"{len(images)} images of epoch {EPOCH.value} of {split} of {source.spec} written to {OUTPUT.value}")


if __name__ == "__main__":
    program.run(main)
