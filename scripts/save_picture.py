"""Writes one picture of a data source as a PNG file, to look at or to try a SavedModel on.

python scripts/save_picture.py --source=digits --split='test[7:8]' --output=picture.png
"""

from absl import flags

from convzoo.training import program

SOURCE = flags.DEFINE_string("source", None, "As config.data.source: digits, idx:FOLDER, folder:FOLDER, tfds:NAME.")
SPLIT = flags.DEFINE_string("split", "test", "The first picture of this split is taken, as test[7:8].")
OUTPUT = flags.DEFINE_string("output", "picture.png", "The file to write.")


def main():
    program.require("source")
    import tensorflow as tf

    from convzoo import data
    from convzoo.training.drawing import write

    source = data.open_source(SOURCE.value)
    source.num_examples(SPLIT.value)
    example = next(iter(source.dataset(SPLIT.value)))
    image = example["image"]
    if image.dtype == tf.string:
        image = data.decode_image(image)
    write(OUTPUT.value, tf.io.encode_png(image).numpy())
    print(f"{OUTPUT.value}: {source.class_names[int(example['label'])]}, of {SPLIT.value} of {SOURCE.value}")


if __name__ == "__main__":
    program.run(main)
