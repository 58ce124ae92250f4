"""Writes one image of a data source as a PNG file.

python scripts/save_image.py --source=digits --split='test[7:8]' --output=image.png
"""

from absl import flags

from convzoo.cli import program

SOURCE = flags.DEFINE_string("source", None, "As config.data.source: digits, idx:FOLDER, folder:FOLDER, tfds:NAME.")
SPLIT = flags.DEFINE_string("split", "test", "Split whose first image is written, such as test[7:8].")
OUTPUT = flags.DEFINE_string("output", "image.png", "PNG file to write.")


def main():
    program.require("source")
    import tensorflow as tf

    from convzoo import data
    from convzoo.tasks.drawing import write_png

    source = data.open_source(SOURCE.value)
    source.num_examples(SPLIT.value)
    example = next(iter(source.dataset(SPLIT.value)))
    image = example["image"]
    if image.dtype == tf.string:
        image = data.decode_image(image)
    write_png(OUTPUT.value, tf.io.encode_png(image).numpy())
    name = source.class_names[int(example["label"])]
    print(f"{OUTPUT.value}: {name}, the first image of {SPLIT.value} of {SOURCE.value}")


if __name__ == "__main__":
    program.run(main)
