r"""Draws what the masks of a region-aware network divide pictures into: each picture, and every block's map beside it.

    python scripts/draw_regions.py --workdir=runs/drconv --checkpoint=best --split=test --count=4 --output=regions.png
    python scripts/draw_regions.py --workdir=runs/drconv --checkpoint=best --blocks='block[048]' --picture=photo.jpg

One colour is one region; colours of different blocks have nothing to do with each other. Pictures are shown as the
network gets them, cropped and resized. Each block's shares of the pixels are printed. Weights without a run are drawn
with `--checkpoint=FILE.weights.h5 --source=...`, as `eval.py` evaluates them.
"""

import fnmatch

from absl import flags

from convzoo.training import program

program.define_checkpoint()
SPLIT = flags.DEFINE_string("split", None, "As test or train[:10%]; default: the experiment's evaluation split.")
COUNT = flags.DEFINE_integer("count", 4, "Pictures of the split, its first.", lower_bound=1)
PICTURE = flags.DEFINE_multi_string("picture", [], "A JPEG or PNG file instead of the split; repeat it.")
BLOCKS = flags.DEFINE_string("blocks", "*", "Shell pattern of the blocks to draw, as block[0-3].")
OUTPUT = flags.DEFINE_string("output", "regions.png", "The PNG file to write.")
program.define_devices()


def main():
    devices = program.connect()
    import tabulate
    import tensorflow as tf

    from convzoo import data
    from convzoo.configs import base
    from convzoo.training import assessment, experiment
    from convzoo.training.config import ConfigError, first_line
    from convzoo.training.drawing import draw, first_pictures, write
    from convzoo.training.regions import RegionMaps

    if PICTURE.value and (SPLIT.value or flags.FLAGS["count"].present):
        raise ConfigError("--picture is in the place of a split; leave out --split and --count")
    config = program.experiment(base.get_config())
    checkpoint = assessment.find_checkpoint(flags.FLAGS.workdir, flags.FLAGS.checkpoint)
    source = experiment.open_source(config)
    with devices.strategy.scope():
        model = experiment.build_model(config, source.num_classes)
        assessment.restore_weights(checkpoint, model, flags.FLAGS.weights)
    region_maps = RegionMaps(model, devices.strategy)
    known = list(region_maps.regions)
    if not known:
        raise ConfigError(f"{config.model.name} has no masks to draw; give a region-aware network (regions above 1)")
    blocks = fnmatch.filter(known, BLOCKS.value)
    if not blocks:
        raise ConfigError(f"--blocks={BLOCKS.value} is none of {', '.join(known)}")
    inputs = experiment.input_settings(config)
    if PICTURE.value:
        pictures = []
        for path in PICTURE.value:
            try:
                pictures.append(data.eval_transform(data.decode_image(tf.io.read_file(path)), **inputs))
            except tf.errors.OpError as error:
                raise ConfigError(f"{path!r} is no picture that can be read ({first_line(error)})") from error
        pictures = tf.stack(pictures).numpy()
    else:
        settings = experiment.eval_settings(config)
        pictures, _ = first_pictures(source, SPLIT.value or config.data.eval_split, COUNT.value, **settings)
    maps = region_maps.of(pictures)
    shares = region_maps.shares(maps)
    drawing = draw(
        pictures,
        {name: maps[name] for name in blocks},
        region_maps.regions,
        mean=inputs["mean"],
        std=inputs["std"],
    )
    write(OUTPUT.value, drawing)
    rows = [[name, *(f"{share:.1%}"[:-1] for share in shares[name])] for name in blocks]
    most = max(region_maps.regions[name] for name in blocks)
    print(tabulate.tabulate(rows, ["% of pixels", *map(str, range(most))], disable_numparse=True))
    print(f"written to {OUTPUT.value}")


if __name__ == "__main__":
    program.run(main)
