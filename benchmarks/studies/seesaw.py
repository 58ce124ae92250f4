"""Seesaw-Net: ratios 1:1, 1:3 and 1:7 with channel shuffle and without, against MobileNetV2.

    apt-get install dataset-fashion-mnist
    python benchmarks/studies/seesaw.py --markers=docs/studies.md --plot=docs/images/study_seesaw.png

The claim of the paper (arXiv 1905.03672): uneven groups gain over even ones. The networks are those of
configs/fashion_mnist_budget.py, whose expansion is so much wider that ratio 1:3 costs as much as MobileNetV2. A ratio
of 1:1 has no share variant, because it cannot be reversed.

Rows are tuned and trained as in benchmarks/studies/budget.py; `convzoo.benchmarks.studies.tuned_study` says what is
written.
"""

from convzoo.benchmarks.studies.tuned_study import Row, TunedStudy, learning_rates_and_decays, run

_CONFIG = "configs/fashion_mnist_budget.py"
_STATIC = "mobilenet_v2"


def _row(mixing, ratio):
    name = f"{mixing} {ratio[0]}:{ratio[1]}"
    return Row(name, f"{_CONFIG}:seesaw_{mixing}", (f"config.model.operator={{'ratio': {ratio}}}",), _STATIC)


STUDY = TunedStudy(
    "seesaw",
    rows=[
        Row(_STATIC, f"{_CONFIG}:{_STATIC}"),
        *(_row("shuffle", ratio) for ratio in ((1, 1), (1, 3), (1, 7))),
        *(_row("share", ratio) for ratio in ((1, 3), (1, 7))),
    ],
    grid=learning_rates_and_decays(rates=(0.1, 0.3), decays=(5e-5, 5e-4)),
    tuning_fields=("config.epochs=2.0", "config.eval_every_epochs=2.0"),
)

if __name__ == "__main__":
    run(STUDY)
