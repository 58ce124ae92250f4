"""Converts the published weights of other projects to a file for `create_model(NAME, weights=FILE)`.

python scripts/import_weights.py --source=timm --checkpoint=tf_efficientnet_b0.safetensors --model=efficientnet_b0 \
    --output=efficientnet_b0.weights.h5

Sources:
  tf1: a checkpoint of the TensorFlow 1 EfficientNet code (the path before .index); --ema imports the moving averages.
  timm: .safetensors, .npz or .pth (which requires PyTorch 2.6 or newer). timm's efficientnet_b0 ... _b7, unlike its
    tf_efficientnet_*, need --override padding=symmetric --override bn_epsilon=1e-5.
  torchvision: the same file formats; overrides for its EfficientNets and ShuffleNets are added automatically.
  lukemelas: the same file formats, of EfficientNet-PyTorch and of EfficientNet-Lite with its names.
  keras: .h5 of keras.applications, as Keras downloads it, of EfficientNet, MobileNetV1 and MobileNetV2.
  drconv, seesaw: the same file formats, saved by the authors' code for DRConv-ShuffleNetV2 and Seesaw-Net.

The number of classes is read from the checkpoint. Nothing is downloaded.
"""

import ast
import os

from absl import flags

from convzoo.cli import program
from convzoo.errors import ModelError

SOURCE = flags.DEFINE_string(
    "source", None, "Origin of the weights: tf1, timm, torchvision, lukemelas, keras, drconv or seesaw."
)
CHECKPOINT = flags.DEFINE_string("checkpoint", None, "The file, or the prefix of a TensorFlow 1 checkpoint.")
MODEL = flags.DEFINE_string("model", None, "Name of the network in convzoo.")
OUTPUT = flags.DEFINE_string("output", None, "File to write, with the suffix .weights.h5.")
OVERRIDE = flags.DEFINE_multi_string(
    "override", [], "KEY=VALUE or operator.KEY=VALUE of the network: a Python literal or a string."
)
EMA = flags.DEFINE_bool("ema", False, "Import the moving averages in the checkpoint instead of the weights.")


def main():
    program.require("source", "checkpoint", "model", "output")
    from convzoo import models, porting
    from convzoo.models.weights import check_path

    check_path(OUTPUT.value)
    overrides = _parse_overrides(OVERRIDE.value)
    imported = porting.import_weights(SOURCE.value, CHECKPOINT.value, MODEL.value, overrides, ema=EMA.value)
    kind = "moving averages" if EMA.value else "weights"
    origin = f"{SOURCE.value}: {kind} of {os.path.basename(CHECKPOINT.value)}"
    models.save_weights(imported.model, OUTPUT.value, imported.overrides, origin, imported.preprocessing)
    for key, value in imported.overrides.items():
        print(f"override {key}={value!r}{'' if key in overrides else f', added for {SOURCE.value}'}")
    if imported.assumption:
        print(imported.assumption)
    print(
        f"{MODEL.value}: {imported.num_assigned} variables ({kind}), {imported.num_classes} classes, "
        f"{imported.num_ignored} other variables ignored; written to {OUTPUT.value}"
    )


def _parse_overrides(texts):
    """Returns {key: value} of KEY=VALUE texts, and operator.KEY=VALUE in a dict under "operator".

    A value that is not a Python literal is a string.
    """
    overrides, operator = {}, {}
    for text in texts:
        key, equals, value = text.partition("=")
        target = operator if key.startswith("operator.") else overrides
        name = key.removeprefix("operator.")
        if not (name and equals):
            raise ModelError(f"cannot read --override={text}; write KEY=VALUE")
        if name in target:
            raise ModelError(f"--override={text} sets {key} a second time; set it once")
        try:
            target[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            target[name] = value
    return {**overrides, "operator": operator} if operator else overrides


if __name__ == "__main__":
    program.run(main)
