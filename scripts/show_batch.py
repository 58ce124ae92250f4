"""Draws what a training feeds its network: the first pictures of an epoch, augmented, below the names of their classes.

    python scripts/show_batch.py --config=configs/quickstart.py --config.data.mixup=0.2 --output=batch.png

They come by the training's own way, with its order and its draws. Mixed pictures tell both classes and their shares;
only their partners may be others than in training, where they depend on the size of its batches. Pictures whose every
pixel has a class have the map of these beside them.
"""

import math

from absl import flags
from ml_collections import config_flags

from convzoo.training import program

config_flags.DEFINE_config_file("config", None, "The experiment, as configs/quickstart.py or FILE:VARIANT.")
COUNT = flags.DEFINE_integer("count", 16, "Pictures to draw.", lower_bound=1)
EPOCH = flags.DEFINE_integer("epoch", 0, "The epoch whose first pictures are drawn, from 0.", lower_bound=0)
OUTPUT = flags.DEFINE_string("output", "batch.png", "The PNG file to write.")


def main():
    config = program.config()
    from convzoo import data
    from convzoo.data.service import addresses
    from convzoo.training import drawing, experiment
    from convzoo.training.config import validate

    validate(config, num_replicas=1)
    source, settings = experiment.open_source(config), experiment.train_settings(config)
    settings["augmentation"].check(source.has_maps)
    data.check_servers(config.data.service)
    split, repeats = config.data.train_split, config.data.repeats
    first = EPOCH.value * source.num_examples(split)
    # With less than twice the repeats a picture could be its own partner.
    step = 2 * repeats * max(len(addresses(config.data.service)), 1)
    batches = data.train_dataset(
        source,
        split,
        batch_size=math.ceil(COUNT.value / step) * step,
        first_example=first - first % repeats,
        **settings,
    )
    with data.input_errors():
        batch = next(iter(batches))
    pictures, labels = (batch[name].numpy()[: COUNT.value] for name in ("image", "label"))
    normalisation = {"mean": settings["mean"], "std": settings["std"]}
    if source.has_maps:
        numbers = {"labels": source.num_classes}
        picture = drawing.draw(pictures, {"labels": labels}, numbers, names=source.class_names, **normalisation)
    else:
        picture = drawing.grid(pictures, drawing.titles_of(labels, source.class_names), **normalisation)
    drawing.write(OUTPUT.value, picture)
    print(f"{len(pictures)} pictures of epoch {EPOCH.value} of {split} of {source.spec}: written to {OUTPUT.value}")


if __name__ == "__main__":
    program.run(main)
