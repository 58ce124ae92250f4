r"""Makes a classification data set of emoji drawn by two foundries: nine categories, colors, and a domain shift.

    npm install emoji-datasource-google@16 emoji-datasource-twitter@16
    python scripts/prepare_emoji.py --google=node_modules/emoji-datasource-google \
        --twitter=node_modules/emoji-datasource-twitter --output=data/emoji
    python train.py --config=configs/emoji.py --config.data.source=folder:data/emoji --workdir=runs/emoji

The class of an image is its Unicode category, without the five components. Splits: train and validation have Google's
drawings, validation a fifth of them, chosen by a hash of the code points; test has Twitter's drawings of the emoji of
validation. Images have 64x64 pixels and get a white background. Skin tones are left out: they would make more than half
of the images one class.
"""

import json
import os
import tempfile
import zlib

from absl import flags

from convzoo.cli import program
from convzoo.errors import ConfigError, first_line

GOOGLE = flags.DEFINE_string("google", None, "Folder of the package emoji-datasource-google.")
TWITTER = flags.DEFINE_string("twitter", None, "Folder of the package emoji-datasource-twitter.")
OUTPUT = flags.DEFINE_string("output", None, "New folder for SPLIT/CATEGORY/image.png.")

_NO_CLASS = "Component"  # skin tones without a person
_HELD_OUT = 5  # one of so many emoji


def main():
    program.require("google", "twitter", "output")

    output = os.path.abspath(OUTPUT.value)
    if os.path.lexists(output):
        raise ConfigError(f"--output={OUTPUT.value} exists; choose a new folder or remove it")
    program.check_folder(output)
    counts = {}
    with tempfile.TemporaryDirectory(dir=os.path.dirname(output)) as temporary:
        data = os.path.join(temporary, "data")
        for foundry, folder, splits in (
            ("google", GOOGLE.value, ("train", "validation")),
            ("twitter", TWITTER.value, (None, "test")),
        ):
            for code, category, name in _images(folder, foundry):
                split = splits[zlib.crc32(code.encode()) % _HELD_OUT == 0]
                if split:
                    os.makedirs(os.path.join(data, split, category), exist_ok=True)
                    _convert(
                        os.path.join(folder, "img", foundry, "64", name), os.path.join(data, split, category, name)
                    )
                    counts[split] = counts.get(split, 0) + 1
        if len(counts) < 3:
            raise ConfigError(
                f"--google={GOOGLE.value} and --twitter={TWITTER.value} have too few emoji for three splits"
            )
        os.rename(data, output)  # an interrupted command leaves no incomplete data set
    parts = ", ".join(f"{split} {count}" for split, count in counts.items())
    print(f"images: {parts}; written to {OUTPUT.value}")


def _images(folder, foundry):
    """Yields code points, category and file name of each image that the foundry has."""
    path = os.path.join(folder, "emoji.json")
    try:
        with open(path, encoding="utf-8") as file:
            emoji = json.load(file)
        for entry in emoji:
            names = entry["unified"], entry["category"], entry["image"]
            if not all(isinstance(name, str) for name in names):
                raise TypeError(f"{names} are not three strings")
            if entry["category"] != _NO_CLASS and entry[f"has_img_{foundry}"]:
                yield names
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"cannot read {path} ({first_line(error)}); give the folder of emoji-datasource-{foundry}"
        ) from error


def _convert(source, target):
    """Writes an image with a white background."""
    import tensorflow as tf

    try:
        image = tf.cast(tf.io.decode_png(tf.io.read_file(source), channels=4), tf.float32)
        opacity = image[..., 3:] / 255.0
        colors = tf.cast(tf.round(image[..., :3] * opacity + 255.0 * (1.0 - opacity)), tf.uint8)
        tf.io.write_file(target, tf.io.encode_png(colors))
    except tf.errors.OpError as error:
        raise ConfigError(
            f"cannot convert {source} to {target} ({first_line(error)}); unpack the package again"
        ) from error


if __name__ == "__main__":
    program.run(main)
