"""Exports a checkpoint with its preprocessing, as a SavedModel or as a LiteRT, ONNX or Keras file.

    python scripts/export.py --workdir=runs/quickstart --checkpoint=best
    python scripts/export.py --workdir=runs/quickstart --checkpoint=best --format=litert --quantize=int8
    python scripts/classify.py --model=runs/quickstart/saved_model image.png
    python scripts/classify.py --model=runs/quickstart/model_int8.tflite image.png

The outputs are compared with those of the Keras network on images of the evaluation split, or on generated images where
the data are not here. If they differ, nothing is written. docs/export.md has the inputs and outputs of each format.

For a file of weights, such as an imported one, --source or --class_names gives the names of the classes. ImageNet need
not be prepared for this:

    python scripts/export.py --checkpoint=b0.weights.h5 --source=tfds:imagenet2012 --output=b0_saved_model
    python scripts/export.py --checkpoint=b0.weights.h5 --class_names=names.txt --output=b0_saved_model
"""

import os

from absl import flags

from convzoo.cli import program
from convzoo.errors import ConfigError, DataError, first_line

# A GPU can compute the network's outputs with fewer digits than the runtime of a file, and the two are compared.
os.environ["CUDA_VISIBLE_DEVICES"] = "-1"

program.define_checkpoint()
FORMAT = flags.DEFINE_enum(
    "format", "saved_model", ["saved_model", "litert", "onnx", "keras"], "Format of the exported model."
)
QUANTIZE = flags.DEFINE_enum(
    "quantize",
    "none",
    ["none", "float16", "int8"],
    "With --format=litert: float16 stores the weights in 16 bits, int8 stores and computes almost all in 8 bits.",
)
CALIBRATION_EXAMPLES = flags.DEFINE_integer(
    "calibration_examples",
    128,
    "With --quantize=int8: number of images of the training split from which the ranges of activations are taken.",
    lower_bound=1,
)
PARITY_EXAMPLES = flags.DEFINE_integer(
    "parity_examples",
    64,
    "Number of images on which the outputs are compared with those of the network.",
    lower_bound=1,
)
TOLERANCE = flags.DEFINE_float(
    "tolerance",
    None,
    "Largest relative difference of an output, as root mean square. Default: 0.001, float16 0.03, int8 0.3.",
    lower_bound=0.0,
)
MIN_AGREEMENT = flags.DEFINE_float(
    "min_agreement",
    None,
    "Lowest share of images with the same class. Default: 0.99, float16 0.95, int8 0.8.",
    lower_bound=0.0,
    upper_bound=1.0,
)
TARGET = flags.DEFINE_enum(
    "target", "cpu", ["cpu", "gpu", "tpu"], "Of a SavedModel: device for which layers choose implementations."
)
OUTPUT = flags.DEFINE_string(
    "output",
    None,
    "Folder of the SavedModel, or file. Default: WORKDIR/saved_model, WORKDIR/model.tflite, .onnx, .keras.",
)
MAX_PIXELS = flags.DEFINE_integer(
    "max_pixels",
    50_000_000,
    "Of a SavedModel: largest number of pixels of an encoded image; a larger JPEG is decoded at a reduced scale, "
    "others are refused.",
    lower_bound=1,
    upper_bound=2**31 - 1,
)
CLASS_NAMES = flags.DEFINE_string(
    "class_names", None, "With a .weights.h5 file, instead of --source: text file with one class name per line."
)


def main():
    from convzoo import serving
    from convzoo.layers import set_target
    from convzoo.tasks import get_task
    from convzoo.training import checkpoints, experiment
    from convzoo.training.workdir import verify_classes

    _check_flags()
    config = program.config_of_checkpoint(needs_source=CLASS_NAMES.value is None)
    workdir = flags.FLAGS.workdir
    if not workdir:
        program.require("output")
    output = OUTPUT.value or os.path.join(workdir, _default_name())
    is_file = FORMAT.value != "saved_model"
    if is_file and not output.endswith(serving.SUFFIXES[FORMAT.value]):
        raise ConfigError(
            f"--output={output} does not end with {serving.SUFFIXES[FORMAT.value]}; rename it, or use another --format"
        )
    if is_file and experiment.keeps_scale(config):
        raise ConfigError(
            f"config.data.scale_jitter={config.data.scale_jitter} keeps the scale of images in evaluation, which "
            f"--format={FORMAT.value} with its fixed size cannot; use --format=saved_model"
        )
    if MIN_AGREEMENT.value is not None and config.task in ("detection", "verification"):
        raise ConfigError(f"--min_agreement={MIN_AGREEMENT.value} has no effect for {config.task}; use --tolerance")
    (serving.check_output_file if is_file else serving.check_output_folder)(output)
    task = get_task(config)
    names = _class_names(config, task)
    if workdir:
        verify_classes(workdir, names)
    # float32 even after training in bfloat16, which the CPU of a server may not support.
    model = experiment.build_model(config, len(names), precision="float32")
    path, kind, step = checkpoints.load(workdir, flags.FLAGS.checkpoint, model, flags.FLAGS.weights)
    images, compared_on = _parity_images(config)
    limits = {"images": images, "tolerance": TOLERANCE.value, "min_agreement": MIN_AGREEMENT.value}
    if is_file:
        limits |= {"quantize": QUANTIZE.value, "calibration_images": _calibration_images(config)}
        with program.startup.without_log_messages():
            parity = serving.export_model_file(
                model, output, names, task, **limits, **experiment.input_settings(config)
            )
    else:
        set_target(TARGET.value)
        settings = experiment.export_settings(config)
        parity = serving.export_saved_model(model, output, names, task, MAX_PIXELS.value, **limits, **settings)
    origin = config.model.name if step is None else f"step {step}, {kind} weights"
    print(f"{path} ({origin}) exported to {output}")
    print(f"compared with the network on {compared_on}, {parity}")


def _check_flags():
    """Raises ConfigError for a flag that has no effect with the others."""
    for flag, holder, wanted in (
        (QUANTIZE, FORMAT, "litert"),
        (CALIBRATION_EXAMPLES, QUANTIZE, "int8"),
        (TARGET, FORMAT, "saved_model"),
        (MAX_PIXELS, FORMAT, "saved_model"),
    ):
        if flags.FLAGS[flag.name].present and holder.value != wanted:
            raise ConfigError(
                f"--{flag.name}={flag.value} applies to --{holder.name}={wanted}, not to {holder.value}; leave it out"
            )
    if QUANTIZE.value == "int8" and CLASS_NAMES.value is not None:
        raise ConfigError(
            f"--quantize=int8 is calibrated on images, and --class_names={CLASS_NAMES.value} has none; use --source"
        )


def _default_name():
    from convzoo.serving import SUFFIXES

    if FORMAT.value == "saved_model":
        return "saved_model"
    return f"model{'' if QUANTIZE.value == 'none' else f'_{QUANTIZE.value}'}{SUFFIXES[FORMAT.value]}"


def _parity_images(config):
    """Returns images for the comparison, uint8 [images, height, width, 3], and what they are."""
    from convzoo import serving
    from convzoo.training import experiment

    settings, split = experiment.input_settings(config), config.data.eval_split
    reason = "no --source"
    if CLASS_NAMES.value is None:
        try:
            source = _eval_source(config)
            images = serving.sample_images(
                source, split, PARITY_EXAMPLES.value, config.data.max_corrupt_fraction, **settings
            )
            return images, f"{split} of {source.spec}"
        except DataError as error:
            reason = first_line(error)
    images = serving.generated_images(PARITY_EXAMPLES.value, settings["image_size"])
    return images, f"generated images ({reason})"


def _eval_source(config):
    """Opens the images of evaluation. Raises DataError if they are not on this machine."""
    from convzoo import data
    from convzoo.tasks import get_task
    from convzoo.training import experiment

    spec, data_dir = config.data.source, config.data.data_dir
    if config.task == "verification" and config.verification.pairs:
        spec = config.verification.pairs
    if not data.is_prepared(spec, data_dir):
        raise DataError(f"{spec} is not prepared on this machine")
    return get_task(config).open_eval_source(config.data.source, data_dir) or experiment.open_source(config)


def _calibration_images(config):
    from convzoo import serving
    from convzoo.training import experiment

    if QUANTIZE.value != "int8":
        return None
    source = experiment.open_source(config)
    settings = experiment.input_settings(config)
    return serving.sample_images(
        source, config.data.train_split, CALIBRATION_EXAMPLES.value, config.data.max_corrupt_fraction, **settings
    )


def _class_names(config, task):
    from convzoo import data, models
    from convzoo.training import workdir

    # Class names of verification are the identities of training, whose data need not be here.
    if config.task == "verification" and (names := workdir.load_classes(flags.FLAGS.workdir)):
        return names
    if CLASS_NAMES.value is None:
        return data.class_names(config.data.source, config.data.data_dir, task.label_kind)
    for name in ("workdir", "source"):
        if flags.FLAGS[name].value is not None:
            raise ConfigError(f"--class_names={CLASS_NAMES.value} and --{name} exclude each other; use one")
    num_classes = models.read_metadata(flags.FLAGS.checkpoint)["num_classes"]
    return workdir.read_class_names(CLASS_NAMES.value, num_classes)


if __name__ == "__main__":
    program.run(main)
