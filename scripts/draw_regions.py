r"""Draws the region maps of a network with region-aware convolutions: each image with the map of every block.

    python scripts/draw_regions.py --workdir=runs/drconv --checkpoint=best --split=test --count=4 --output=regions.png
    python scripts/draw_regions.py --workdir=runs/drconv --checkpoint=best --blocks='block[048]' --image=photo.jpg

Each color is a region; the colors of different blocks are not related. Images are drawn as the network receives them,
cropped and resized. The share of the pixels in each region is printed. `--checkpoint=FILE.weights.h5 --source=...`
draws a file of weights, as in `eval.py`.
"""

import fnmatch

from absl import flags

from convzoo.cli import program
from convzoo.errors import ConfigError, first_line

program.define_checkpoint()
SPLIT = flags.DEFINE_string("split", None, "Split, such as test or train[:10%]. Default: config.data.eval_split.")
COUNT = flags.DEFINE_integer(
    "count", 4, "Number of images, from the start of the split.", lower_bound=1, upper_bound=64
)
IMAGE = flags.DEFINE_multi_string("image", [], "Image file to draw instead of a split; repeatable.")
BLOCKS = flags.DEFINE_string("blocks", "*", "Shell pattern of the blocks to draw, such as block[0-3].")
OUTPUT = flags.DEFINE_string("output", "regions.png", "PNG file to write.")
program.define_devices()


def main():
    devices = program.connect()
    import tabulate

    from convzoo.tasks.drawing import draw_label_maps, first_images, write_png
    from convzoo.training import experiment
    from convzoo.training.inspection import RegionMaps

    if IMAGE.value and (SPLIT.value or flags.FLAGS["count"].present):
        raise ConfigError("--image replaces the split; leave out --split and --count")
    config = program.config_of_checkpoint()
    source, model, _ = program.load_checkpoint(config, devices)
    region_maps = RegionMaps(model, devices.strategy)
    if not region_maps.regions:
        raise ConfigError(f"network {config.model.name!r} has no region maps; use one with region-aware convolutions")
    blocks = fnmatch.filter(region_maps.regions, BLOCKS.value)
    if not blocks:
        raise ConfigError(f"--blocks={BLOCKS.value} matches none of {', '.join(region_maps.regions)}")
    settings = experiment.eval_settings(config)
    if IMAGE.value:
        images = _read_images(IMAGE.value, experiment.input_settings(config))
    else:
        images, _ = first_images(source, SPLIT.value or config.data.eval_split, COUNT.value, **settings)
    maps = region_maps(images)
    drawn = {name: maps[name] for name in blocks}
    png = draw_label_maps(images, drawn, region_maps.regions, mean=settings["mean"], std=settings["std"])
    write_png(OUTPUT.value, png)
    shares = {name: values.mean(0) for name, values in region_maps.shares(maps).items()}
    rows = [[name, *(f"{share:.1%}"[:-1] for share in shares[name])] for name in blocks]
    headers = ["% of pixels", *map(str, range(max(region_maps.regions[name] for name in blocks)))]
    print(tabulate.tabulate(rows, headers, disable_numparse=True))
    print(f"written to {OUTPUT.value}")


def _read_images(paths, input_settings):
    """Returns preprocessed images, float32 [images, height, width, 3]."""
    import tensorflow as tf

    from convzoo import data

    images = []
    for path in paths:
        try:
            images.append(data.eval_transform(data.decode_image(tf.io.read_file(path)), **input_settings))
        except tf.errors.OpError as error:
            raise ConfigError(f"cannot read --image={path} ({first_line(error)}); give an image file") from error
    return tf.stack(images).numpy()


if __name__ == "__main__":
    program.run(main)
