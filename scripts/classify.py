"""Classifies images with an exported network.

    python scripts/classify.py --model=runs/quickstart/saved_model image.png [more.jpg ...]
    python scripts/classify.py --model=runs/quickstart/model_int8.tflite image.png

For a SavedModel it needs TensorFlow only, neither convzoo nor Keras. For .tflite, .onnx and .keras files it needs
convzoo, and for ONNX `pip install -e ".[onnx]"`.
"""

import argparse
import os
import re
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # errors are exceptions


def stop(message):
    print(f"classify.py: {message}", file=sys.stderr)
    sys.exit(2)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True, help="folder of a SavedModel, or .tflite, .onnx or .keras file")
    parser.add_argument("--top", type=int, default=3, help="number of classes to print for each image")
    parser.add_argument("images", nargs="+", help="JPEG, PNG, BMP, GIF or WebP files")
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

    is_file = options.model.endswith((".tflite", ".onnx", ".keras"))
    classify, labels = (_open_file if is_file else _open_saved_model)(options.model)
    for path in options.images:
        try:
            if os.path.exists(path) and not os.path.isfile(path):
                stop(f"{path!r} is not a regular file; give an image file")
            encoded = tf.io.read_file(path)
        except (UnicodeEncodeError, tf.errors.OpError):
            stop(f"cannot read {path!r}; give an image file")
        try:
            probabilities = classify(encoded)
        except tf.errors.InvalidArgumentError as error:
            reason = re.search(r"(not an image .*|more than \d+ pixels) at batch index", str(error))
            stop(f"{path!r} is {reason[1]}" if reason else f"{path!r} is corrupt")
        if probabilities.ndim > 1:
            stop(f"model {options.model!r} classifies pixels, not images")
        top = probabilities.argsort()[::-1][: options.top]
        print(f"{path}: " + ", ".join(f"{labels[index]} {probabilities[index]:.1%}" for index in top))


def _open_saved_model(folder):
    """Returns a function from the bytes of an image to probabilities, and the names of the classes."""
    import tensorflow as tf

    try:
        loaded = tf.saved_model.load(folder)
    except Exception:  # damaged files raise exceptions of many types
        stop(f"cannot load {folder!r} as a SavedModel; give a folder that export.py wrote")
    try:
        classify = loaded.signatures["serving_default"]
        with tf.io.gfile.GFile(os.path.join(folder, "assets", "labels.txt")) as file:
            # str.splitlines would also split at characters that a name may contain, such as U+2028.
            labels = file.read().removesuffix("\n").split("\n")
        if "boxes" in classify.structured_outputs:
            stop(f"SavedModel {folder!r} detects objects; call its signatures instead")
        if "embeddings" in classify.structured_outputs:
            stop(f"SavedModel {folder!r} compares images; use verify.py")
        num_classes = classify.structured_outputs["probabilities"].shape[-1]
    except (KeyError, UnicodeDecodeError, tf.errors.OpError):
        stop(f"SavedModel {folder!r} has no class names; give a folder that export.py wrote")
    if len(labels) != num_classes:
        stop(f"SavedModel {folder!r} has {num_classes} classes and {len(labels)} names; export it again")
    return lambda encoded: classify(image_bytes=tf.stack([encoded]))["probabilities"][0].numpy(), labels


def _open_file(path):
    """Does for a file what `_open_saved_model` does for a folder."""
    import tensorflow as tf

    try:
        from convzoo import errors, serving
    except ImportError as error:
        stop(f"{path!r} is no SavedModel and needs convzoo ({error}); install it with: pip install -e .")
    try:
        model = serving.load_model_file(path)
    except errors.UserError as error:
        stop(error)
    task = model.metadata["task"]
    if task != "classification":
        stop(f"file {path!r} was exported for {task}, not classification; use convzoo.serving.load_model_file")

    def classify(encoded):
        return tf.nn.softmax(model(model.decode(encoded)[None])["logits"][0]).numpy()

    return classify, model.metadata["class_names"]


if __name__ == "__main__":
    main()
