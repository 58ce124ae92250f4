"""Exports a checkpoint as a SavedModel with preprocessing: images in, predictions out.

python scripts/export_saved_model.py --workdir=runs/quickstart --checkpoint=best
python scripts/classify.py --saved_model=runs/quickstart/saved_model image.png

For a file of weights, such as an imported one, --source gives the names of the classes:

python scripts/export_saved_model.py --checkpoint=b0.weights.h5 --source=tfds:imagenet2012 --output=b0_saved_model
"""

import os

from absl import flags

from convzoo.cli import program

program.define_checkpoint()
TARGET = flags.DEFINE_enum("target", "cpu", ["cpu", "gpu", "tpu"], "Device for which layers choose implementations.")
OUTPUT = flags.DEFINE_string("output", None, "Folder of the SavedModel. Default: WORKDIR/saved_model.")


def main():
    from convzoo.layers import set_target
    from convzoo.serving import check_output_folder, export_saved_model
    from convzoo.tasks import get_task
    from convzoo.training import checkpoints, experiment
    from convzoo.training.workdir import verify_classes

    config = program.config_of_checkpoint()
    workdir = flags.FLAGS.workdir
    if not workdir:
        program.require("output")
    folder = OUTPUT.value or os.path.join(workdir, "saved_model")
    check_output_folder(folder)
    set_target(TARGET.value)
    path = checkpoints.find_checkpoint(workdir, flags.FLAGS.checkpoint)
    source = experiment.open_source(config)
    if workdir:
        verify_classes(workdir, source.class_names)
    # float32 even after training in bfloat16, which the CPU of a server may not support.
    model = experiment.build_model(config, source.num_classes, precision="float32")
    kind, step = checkpoints.restore_weights(path, model, flags.FLAGS.weights)
    export_saved_model(model, folder, source.class_names, get_task(config), **experiment.input_settings(config))
    origin = config.model.name if step is None else f"step {step}, {kind} weights"
    print(f"{path} ({origin}) exported to {folder}")


if __name__ == "__main__":
    program.run(main)
