"""Exports a run's checkpoint as a SavedModel: pictures in, classes out, of pictures or pixels, preprocessing inside.

python scripts/export_saved_model.py --workdir=runs/quickstart --checkpoint=best
python scripts/classify.py --saved_model=runs/quickstart/saved_model picture.png

Weights without a run, imported ones say, take the names of their classes from a data source:

python scripts/export_saved_model.py --checkpoint=b0.weights.h5 --source=tfds:imagenet2012 --output=b0_saved_model
"""

import os

from absl import flags

from convzoo.training import program

program.define_checkpoint()
TARGET = flags.DEFINE_enum("target", "cpu", ["cpu", "gpu", "tpu"], "The device that will serve; layers compute for it.")
OUTPUT = flags.DEFINE_string("output", None, "Folder of the SavedModel; default: WORKDIR/saved_model.")


def main():
    from convzoo.configs import base
    from convzoo.layers import set_target
    from convzoo.serving import ExportError, check_target, export_saved_model
    from convzoo.training import assessment, classes, experiment
    from convzoo.training.config import ConfigError

    config = program.experiment(base.get_config())
    if not flags.FLAGS.workdir:
        program.require("output")
    folder = OUTPUT.value or os.path.join(flags.FLAGS.workdir, "saved_model")
    try:
        check_target(folder)
    except ExportError as error:
        raise ConfigError(f"--output={error}") from error
    set_target(TARGET.value)
    path = assessment.find_checkpoint(flags.FLAGS.workdir, flags.FLAGS.checkpoint)
    source = experiment.open_source(config)
    if flags.FLAGS.workdir:
        classes.check(flags.FLAGS.workdir, source.class_names)
    # Float32 whatever the training computed in: a server's CPU need not know bfloat16.
    model = experiment.build_model(config, source.num_classes, precision="float32")
    kind, step = assessment.restore_weights(path, model, flags.FLAGS.weights)
    export_saved_model(model, folder, source.class_names, source.has_maps, **experiment.input_settings(config))
    told = f"step {step}, {kind} weights" if step is not None else config.model.name
    print(f"{path} ({told}) exported to {folder}")


if __name__ == "__main__":
    program.run(main)
