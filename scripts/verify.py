"""Compares two images with the exported SavedModel of a verification: prints the cosine of their embeddings.

    python scripts/verify.py --saved_model=runs/verification/saved_model --threshold=0.5 first.png second.png

eval.py prints the best threshold of its pairs.
"""

import math
import os
import re

from absl import flags

from convzoo.cli import program
from convzoo.errors import ConfigError, first_line

SAVED_MODEL = flags.DEFINE_string("saved_model", None, "Folder that export.py wrote.")
THRESHOLD = flags.DEFINE_float(
    "threshold", None, "Lowest cosine of images of one identity. Default: none, only the cosine.", -1.0, 1.0
)


def main(paths):
    program.require("saved_model")
    if THRESHOLD.value is not None and math.isnan(THRESHOLD.value):
        raise ConfigError(f"--threshold={THRESHOLD.value} is no number; use one from -1 to 1")
    if len(paths) != 2:
        raise ConfigError(f"verify.py compares two images, not {len(paths)}; name two files")
    import tensorflow as tf

    try:
        loaded = tf.saved_model.load(SAVED_MODEL.value)
    except Exception as error:  # damaged files raise exceptions of many types
        raise ConfigError(
            f"cannot load {SAVED_MODEL.value!r} as a SavedModel; give a folder that export.py wrote"
        ) from error
    if not {"compare", "serving_default"} <= set(loaded.signatures):
        raise ConfigError(f"SavedModel {SAVED_MODEL.value!r} cannot compare images; export a verification")
    encoded = []
    for path in paths:
        if os.path.exists(path) and not os.path.isfile(path):  # reading a pipe would wait
            raise ConfigError(f"{path!r} is not a regular file; give an image file")
        try:
            encoded.append(tf.stack([tf.io.read_file(path)]))
            loaded.signatures["serving_default"](image_bytes=encoded[-1])
        except (UnicodeEncodeError, tf.errors.InvalidArgumentError) as error:
            reason = re.search(r"(not an image .*|more than \d+ pixels) at batch index", str(error))
            raise ConfigError(f"{path!r} is {reason[1] if reason else 'corrupt'}; give an image file") from error
        except tf.errors.OpError as error:
            raise ConfigError(f"cannot read {path!r} ({first_line(error)}); give an image file") from error
    outputs = loaded.signatures["compare"](image_bytes_1=encoded[0], image_bytes_2=encoded[1])
    cosine = float(outputs["cosines"][0])
    verdict = ""
    if THRESHOLD.value is not None:
        verdict = ", same identity" if cosine >= THRESHOLD.value else ", different identities"
    print(f"cosine {cosine:.4f}{verdict}")


if __name__ == "__main__":
    program.run(main)
