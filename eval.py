"""Evaluates a checkpoint on a split and counts every example exactly once.

    python eval.py --workdir=runs/quickstart --checkpoint=best --split=test

The config is read from the workdir. The metrics are printed as a table and written as JSON to WORKDIR/evaluations. With
--follow, the checkpoints of a running training are evaluated as they appear. A file of weights, such as an imported
one, needs no run; its JSON file is written beside it. With --class_names, the data may have some of its classes only:

    python eval.py --checkpoint=efficientnet_b0.weights.h5 --source=tfds:imagenet2012 --split=validation \\
        --real_labels=real.json
    python eval.py --checkpoint=efficientnet_b0.weights.h5 --source=folder:photographs --class_names=imagenet.txt

Classification also gets accuracy by class, a confusion matrix and a reliability diagram, in files beside the JSON file,
and on request the predictions of each image and a drawing of the images with the highest loss:

    python eval.py --workdir=runs/quickstart --checkpoint=best --split=test --predictions=csv --top_losses=32
"""

import tabulate
from absl import flags

from convzoo.cli import program
from convzoo.errors import ConfigError

program.define_checkpoint()
SPLIT = flags.DEFINE_string("split", None, "Split, such as test or train[:10%]. Default: config.data.eval_split.")
BATCH_SIZE = flags.DEFINE_integer("batch_size", None, "Over all replicas. Default: that of the config.", lower_bound=1)
CLASS_NAMES = flags.DEFINE_string(
    "class_names",
    None,
    "With a .weights.h5 file: text file with the name of each of its classes, one per line, by which those of the data "
    "are found.",
)
OUTPUT = flags.DEFINE_string("output", None, "JSON file. Default: in WORKDIR/evaluations, or beside the weights.")
FOLLOW = flags.DEFINE_bool("follow", False, "Evaluate checkpoints as they appear, until the last step of the run.")
REAL_LABELS = flags.DEFINE_string(
    "real_labels",
    None,
    "Classification: JSON file with a list of acceptable class indices for each image, in the format of "
    "ImageNet-ReaL's real.json.",
)
PREDICTIONS = flags.DEFINE_enum(
    "predictions", None, ["csv", "parquet"], "Classification: also write the predictions of each image, in this format."
)
TOP_LOSSES = flags.DEFINE_integer(
    "top_losses",
    None,
    "Classification: also draw so many images, those with the highest loss.",
    lower_bound=1,
    upper_bound=200,
)
TIMEOUT = flags.DEFINE_float("timeout", None, "With --follow: longest time to wait for a checkpoint, in seconds.")
program.define_devices()


def main():
    devices = program.connect()
    from convzoo.training.evaluation import CheckpointEvaluator

    workdir, class_names = flags.FLAGS.workdir, _class_names()
    evaluator = CheckpointEvaluator(
        program.config_of_checkpoint(),
        workdir,
        devices,
        SPLIT.value,
        weights=flags.FLAGS.weights,
        batch_size=BATCH_SIZE.value,
        class_names=class_names,
        real_labels=REAL_LABELS.value,
        predictions=PREDICTIONS.value,
        top_losses=TOP_LOSSES.value,
    )
    if FOLLOW.value and OUTPUT.value:
        raise ConfigError("--follow writes one file per checkpoint; leave out --output")
    if FOLLOW.value and not workdir:
        raise ConfigError("--follow requires the workdir of a run; set --workdir")
    results = evaluator.follow(TIMEOUT.value) if FOLLOW.value else [evaluator.evaluate(flags.FLAGS.checkpoint)]
    for result in results:
        path = evaluator.write(result, OUTPUT.value)
        row = {
            "step": "" if result["step"] is None else result["step"],
            **{name: result[name] for name in ("weights", "split", "examples")},
            **evaluator.task.summary(result),
        }
        print(tabulate.tabulate([row], headers="keys", disable_numparse=True), flush=True)
        for rows in filter(None, evaluator.task.summary_tables(result)):
            print(f"\n{tabulate.tabulate(rows, headers='keys', disable_numparse=True)}", flush=True)
        print(f"written to {path}", flush=True)


def _class_names():
    from convzoo.models import read_metadata
    from convzoo.models.weights import SUFFIX
    from convzoo.training.workdir import read_class_names

    if CLASS_NAMES.value is None:
        return None
    if flags.FLAGS.workdir or not flags.FLAGS.checkpoint.endswith(SUFFIX):
        raise ConfigError(f"--class_names={CLASS_NAMES.value} applies to a {SUFFIX} file; leave it out for a run")
    return read_class_names(CLASS_NAMES.value, read_metadata(flags.FLAGS.checkpoint).get("num_classes"))


if __name__ == "__main__":
    program.run(main)
