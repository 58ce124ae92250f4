r"""Draws a study: the top-1 of every row over what it costs.

    python scripts/draw_study.py --workdir=runs/studies/experts --output=experts.png
    python scripts/draw_study.py --workdir=runs/studies/experts --across=images_per_second --output=experts.png

A point is a row of the study's table, the mean of its finished runs; its bar reaches one sample standard deviation to
both sides.
"""

from absl import flags

from convzoo.training import program

ACROSS = {
    "madds": "multiply-adds",
    "params": "parameters",
    "images_per_second": "images per second, training",
}

WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the study, local or gs://.")
COST = flags.DEFINE_enum("across", "madds", list(ACROSS), "The cost to draw over, on a logarithmic axis.")
OUTPUT = flags.DEFINE_string("output", "study.png", "The PNG file to write.")


def main():
    program.require("workdir")
    from convzoo.training.config import ConfigError
    from convzoo.training.drawing import scatter, write
    from convzoo.training.study import FILE, Study

    study = Study(WORKDIR.value)
    points = {}
    for row in study.rows:
        figures = study.figures(row)
        if figures["top1"] and figures[COST.value]:
            points[row["name"]] = (figures[COST.value], figures["top1"])
    if not points:
        raise ConfigError(f"--workdir={WORKDIR.value} holds no finished run with {ACROSS[COST.value]} in its {FILE}")
    write(OUTPUT.value, scatter(points, ACROSS[COST.value], f"top-1 on {study.about['split']}, %"))
    print(f"{len(points)} rows: written to {OUTPUT.value}")


if __name__ == "__main__":
    program.run(main)
