r"""Plots metrics of runs over their steps, from WORKDIR/metrics.jsonl.

    python scripts/draw_curves.py --workdir=runs/static --workdir='experts: runs/condconv' --output=curves.png
    python scripts/draw_curves.py --workdir='runs/studies/rate/low/seed_*' --metric=train/loss --log

Each --workdir has a color, and each --metric has its own plot. A shell pattern draws the runs that it matches, such as
the seeds of a row of a study, in one color. A name before ": " is the label of the legend.
"""

import re

from absl import flags

from convzoo.cli import program
from convzoo.errors import ConfigError

WORKDIR = flags.DEFINE_multi_string("workdir", [], "Workdir or shell pattern, local or gs://; repeatable.")
METRIC = flags.DEFINE_multi_string(
    "metric", ["train/loss", "eval/top1"], "Metric, a key of the lines in metrics.jsonl; repeatable."
)
LOG = flags.DEFINE_bool("log", False, "Logarithmic y axes.")
OUTPUT = flags.DEFINE_string("output", "curves.png", "PNG file to write.")


def main():
    program.require("workdir")

    from convzoo.cli.plots import plot_curves
    from convzoo.tasks.drawing import write_png

    curves = {metric: {} for metric in METRIC.value}
    known = set()
    for text in WORKDIR.value:
        label, pattern = re.fullmatch(r"(?:(.*?): )?(.*)", text, re.DOTALL).groups()
        for lines in _read(pattern):
            known |= {key for line in lines for key in line}
            for metric, of_metric in curves.items():
                points = [(line["step"], line[metric]) for line in lines if isinstance(line.get(metric), int | float)]
                of_metric.setdefault(label or pattern, []).append(points)
    for metric, of_metric in curves.items():
        if not any(points for runs in of_metric.values() for points in runs):
            raise ConfigError(
                f"no run has numbers for --metric={metric}; available: {', '.join(sorted(known - {'step'}))}"
            )
    write_png(OUTPUT.value, plot_curves(curves, LOG.value))
    print(f"{sum(map(len, curves[METRIC.value[0]].values()))} runs: written to {OUTPUT.value}")


def _read(pattern):
    """Returns the lines of metrics.jsonl of each run that matches."""
    import tensorflow as tf

    from convzoo.training.metrics import read_metrics

    workdirs = sorted(filter(tf.io.gfile.isdir, tf.io.gfile.glob(pattern)))
    runs = [lines for workdir in workdirs if (lines := read_metrics(workdir))]
    if not runs:
        raise ConfigError(f"--workdir={pattern} has no metrics.jsonl of a training; check the path")
    return runs


if __name__ == "__main__":
    program.run(main)
