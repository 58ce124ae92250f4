"""Classifies images with an exported SavedModel. Needs TensorFlow only, neither convzoo nor Keras.

python scripts/classify.py --saved_model=runs/quickstart/saved_model image.png [more.jpg ...]
"""

import argparse
import os
import re
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # errors are exceptions


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--saved_model", required=True, help="folder of the SavedModel")
    parser.add_argument("--top", type=int, default=3, help="number of classes to print for each image")
    parser.add_argument("images", nargs="+", help="JPEG, PNG, BMP, GIF or WebP files")

    def stop(message):
        print(f"classify.py: {message}", file=sys.stderr)
        sys.exit(2)

    parser.error = stop  # without the usage, which --help prints
    options = parser.parse_args()

    if options.top < 1:
        stop(f"--top={options.top} is not positive; use at least 1")

    # TensorFlow writes messages before its log level applies.
    original, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 2)
    try:
        import tensorflow as tf
    finally:
        os.dup2(original, 2)

    try:
        loaded = tf.saved_model.load(options.saved_model)
    except Exception:  # damaged files raise exceptions of many types
        stop(f"cannot load {options.saved_model!r} as a SavedModel; give a folder that export_saved_model.py wrote")
    try:
        classify = loaded.signatures["serving_default"]
        with tf.io.gfile.GFile(os.path.join(options.saved_model, "assets", "labels.txt")) as file:
            # str.splitlines would also split at characters that a name may contain, such as U+2028.
            labels = file.read().removesuffix("\n").split("\n")
        if "boxes" in classify.structured_outputs:
            stop(f"SavedModel {options.saved_model!r} detects objects; call its signatures instead")
        if "embeddings" in classify.structured_outputs:
            stop(f"SavedModel {options.saved_model!r} compares images; use verify.py")
        num_classes = classify.structured_outputs["probabilities"].shape[-1]
    except (KeyError, UnicodeDecodeError, tf.errors.OpError):
        stop(f"SavedModel {options.saved_model!r} has no class names; give a folder that export_saved_model.py wrote")
    if len(labels) != num_classes:
        stop(f"SavedModel {options.saved_model!r} has {num_classes} classes and {len(labels)} names; export it again")
    for path in options.images:
        try:
            if os.path.exists(path) and not os.path.isfile(path):
                stop(f"{path!r} is not a regular file; give an image file")
            encoded = tf.io.read_file(path)
        except (UnicodeEncodeError, tf.errors.OpError):
            stop(f"cannot read {path!r}; give an image file")
        try:
            outputs = classify(image_bytes=tf.stack([encoded]))
        except tf.errors.InvalidArgumentError as error:
            reason = re.search(r"(not an image .*|more than \d+ pixels) at batch index", str(error))
            stop(f"{path!r} is {reason[1]}" if reason else f"{path!r} is corrupt")
        probabilities = outputs["probabilities"][0].numpy()
        if probabilities.ndim > 1:
            stop(f"SavedModel {options.saved_model!r} classifies pixels, not images; call its signatures instead")
        top = probabilities.argsort()[::-1][: options.top]
        print(f"{path}: " + ", ".join(f"{labels[index]} {probabilities[index]:.1%}" for index in top))


if __name__ == "__main__":
    main()
