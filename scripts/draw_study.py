r"""Plots the metric, such as the top-1 accuracy, of each row of a study over its cost.

    python scripts/draw_study.py --workdir=runs/studies/experts --output=experts.png
    python scripts/draw_study.py --workdir=runs/studies/experts --across=images_per_second --output=experts.png

Each point is the mean of a row's finished runs, with a bar of one sample standard deviation to each side.
"""

from absl import flags

from convzoo.cli import program
from convzoo.errors import ConfigError

_LABELS = {
    "madds": "multiply-adds",
    "params": "parameters",
    "images_per_second": "images per second in training",
}

WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the study, local or gs://.")
COST = flags.DEFINE_enum("across", "madds", list(_LABELS), "Cost on the logarithmic x axis.")
OUTPUT = flags.DEFINE_string("output", "study.png", "PNG file to write.")


def main():
    program.require("workdir")

    from convzoo.cli.plots import plot_accuracy
    from convzoo.cli.study import Study
    from convzoo.tasks.drawing import write_png

    study = Study(WORKDIR.value)
    points = {}
    for row in study.rows:
        results = study.results(row)
        if results["values"] and results[COST.value]:
            points[row["name"]] = (results[COST.value], results["values"])
    if not points:
        raise ConfigError(f"the study in --workdir={WORKDIR.value} has no finished run with {_LABELS[COST.value]}")
    png = plot_accuracy(points, _LABELS[COST.value], f"{study.metric_title} on {study.about['split']}, %")
    write_png(OUTPUT.value, png)
    print(f"{len(points)} rows: written to {OUTPUT.value}")


if __name__ == "__main__":
    program.run(main)
