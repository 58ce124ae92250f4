"""Turns published weights of other people's code into a file that `create_model(NAME, weights=FILE)` loads.

python scripts/import_weights.py --source=timm --checkpoint=tf_efficientnet_b0.safetensors --model=efficientnet_b0 \
    --output=efficientnet_b0.weights.h5

Sources:
  tf1: a checkpoint of the TensorFlow 1 EfficientNet code (the path before .index); --ema takes its moving averages.
  timm: .safetensors, .npz or .pth (with PyTorch 2.6 or newer installed). timm's own efficientnet_b0 ... _b7, unlike its
    tf_efficientnet_*, need --override padding=symmetric --override bn_epsilon=1e-5.
  torchvision: the same kinds of files; what its EfficientNets and ShuffleNets need is added without being asked for.
  drconv, seesaw: the same kinds of files, as the authors' code for DRConv-ShuffleNetV2 and Seesaw-Net saves them.

The number of classes is read from the checkpoint. Nothing is downloaded.
"""

import ast
import os

from absl import flags

from convzoo.training import program

SOURCE = flags.DEFINE_string("source", None, "Whose weights: tf1, timm, torchvision, drconv or seesaw.")
CHECKPOINT = flags.DEFINE_string("checkpoint", None, "The file, or the prefix of a TensorFlow 1 checkpoint.")
MODEL = flags.DEFINE_string("model", None, "Our name of the network.")
OUTPUT = flags.DEFINE_string("output", None, "The file to write; ends in .weights.h5.")
OVERRIDE = flags.DEFINE_multi_string("override", [], "KEY=VALUE of the network: a Python literal, or a text.")
EMA = flags.DEFINE_bool("ema", False, "Take the moving averages that the checkpoint holds beside the weights.")


def main():
    program.require("source", "checkpoint", "model", "output")
    from convzoo import models, porting
    from convzoo.models.weights import check_path

    check_path(OUTPUT.value)
    given = _overrides(OVERRIDE.value)
    imported = porting.import_weights(SOURCE.value, CHECKPOINT.value, MODEL.value, given, ema=EMA.value)
    kind = "moving averages" if EMA.value else "weights"
    origin = f"{SOURCE.value}: {kind} of {os.path.basename(CHECKPOINT.value)}"
    models.save_weights(imported.model, OUTPUT.value, overrides=imported.overrides, source=origin)
    for key, value in imported.overrides.items():
        print(f"override {key}={value!r}{'' if key in given else f', which the weights of {SOURCE.value} need'}")
    if imported.doubt:
        print(imported.doubt)
    print(
        f"{MODEL.value}: {imported.carried} variables ({kind}), {imported.num_classes} classes, "
        f"{imported.left_aside} others left aside; written to {OUTPUT.value}"
    )


def _overrides(texts):
    """{key: value} of KEY=VALUE texts; what is no Python literal is a text."""
    from convzoo.porting import PortingError

    overrides = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not (key and equals):
            raise PortingError(f"cannot read --override={text}; write KEY=VALUE")
        if key in overrides:
            raise PortingError(f"--override {key} is given twice; give it once")
        try:
            overrides[key] = ast.literal_eval(value)
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            overrides[key] = value
    return overrides


if __name__ == "__main__":
    program.run(main)
