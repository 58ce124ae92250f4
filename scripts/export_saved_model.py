"""Exports a checkpoint as a SavedModel with preprocessing: images in, predictions out.

python scripts/export_saved_model.py --workdir=runs/quickstart --checkpoint=best
python scripts/classify.py --saved_model=runs/quickstart/saved_model image.png

For a file of weights, such as an imported one, --source or --class_names gives the names of the classes. ImageNet need
not be prepared for this:

python scripts/export_saved_model.py --checkpoint=b0.weights.h5 --source=tfds:imagenet2012 --output=b0_saved_model
python scripts/export_saved_model.py --checkpoint=b0.weights.h5 --class_names=names.txt --output=b0_saved_model
"""

import os

from absl import flags

from convzoo.cli import program
from convzoo.errors import ConfigError

program.define_checkpoint()
TARGET = flags.DEFINE_enum("target", "cpu", ["cpu", "gpu", "tpu"], "Device for which layers choose implementations.")
OUTPUT = flags.DEFINE_string("output", None, "Folder of the SavedModel. Default: WORKDIR/saved_model.")
MAX_PIXELS = flags.DEFINE_integer(
    "max_pixels",
    50_000_000,
    "Largest number of pixels of an encoded image; a larger JPEG is decoded at a reduced scale, others are refused.",
    lower_bound=1,
    upper_bound=2**31 - 1,
)
CLASS_NAMES = flags.DEFINE_string(
    "class_names", None, "With a .weights.h5 file, instead of --source: text file with one class name per line."
)


def main():
    from convzoo.layers import set_target
    from convzoo.serving import check_output_folder, export_saved_model
    from convzoo.tasks import get_task
    from convzoo.training import checkpoints, experiment
    from convzoo.training.workdir import verify_classes

    config = program.config_of_checkpoint(needs_source=CLASS_NAMES.value is None)
    workdir = flags.FLAGS.workdir
    if not workdir:
        program.require("output")
    folder = OUTPUT.value or os.path.join(workdir, "saved_model")
    check_output_folder(folder)
    set_target(TARGET.value)
    task = get_task(config)
    names = _class_names(config, task)
    if workdir:
        verify_classes(workdir, names)
    # float32 even after training in bfloat16, which the CPU of a server may not support.
    model = experiment.build_model(config, len(names), precision="float32")
    path, kind, step = checkpoints.load(workdir, flags.FLAGS.checkpoint, model, flags.FLAGS.weights)
    export_saved_model(model, folder, names, task, MAX_PIXELS.value, **experiment.export_settings(config))
    origin = config.model.name if step is None else f"step {step}, {kind} weights"
    print(f"{path} ({origin}) exported to {folder}")


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
