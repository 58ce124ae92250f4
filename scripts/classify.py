"""Classifies pictures with an exported SavedModel. Needs TensorFlow alone: neither convzoo nor Keras.

python scripts/classify.py --saved_model=runs/quickstart/saved_model picture.png [more.jpg ...]
"""

import argparse
import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--saved_model", required=True, help="folder of the SavedModel")
    parser.add_argument("--top", type=int, default=3, help="classes to show for each picture")
    parser.add_argument("pictures", nargs="+", help="JPEG or PNG files")
    options = parser.parse_args()

    import tensorflow as tf

    def stop(message):
        print(f"classify.py: {message}", file=sys.stderr)
        sys.exit(2)

    try:
        loaded = tf.saved_model.load(options.saved_model)
    except (OSError, tf.errors.OpError):
        stop(f"{options.saved_model!r} is no SavedModel; give the folder that export_saved_model.py wrote")
    try:
        classify = loaded.signatures["serving_default"]
        with tf.io.gfile.GFile(os.path.join(options.saved_model, "assets", "labels.txt")) as file:
            labels = file.read().splitlines()
    except (KeyError, tf.errors.NotFoundError):
        stop(f"{options.saved_model!r} is a SavedModel of another kind; give one that export_saved_model.py wrote")
    for path in options.pictures:
        try:
            encoded = tf.io.read_file(path)
        except tf.errors.OpError:
            stop(f"{path!r} cannot be read; give a JPEG or PNG file")
        try:
            answer = classify(image_bytes=tf.stack([encoded]))
        except tf.errors.InvalidArgumentError:
            stop(f"{path!r} is not a JPEG or PNG picture, or a damaged one")
        probabilities = answer["probabilities"][0].numpy()
        if probabilities.ndim > 1:
            stop(f"{options.saved_model!r} gives each pixel a class; its signatures are for programs")
        ranked = probabilities.argsort()[::-1][: options.top]
        print(f"{path}: " + ", ".join(f"{labels[index]} {probabilities[index]:.1%}" for index in ranked))


if __name__ == "__main__":
    main()
