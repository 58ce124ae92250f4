"""DRConv: a static network against 1, 2, 4 and 8 regions.

    apt-get install dataset-fashion-mnist
    python benchmarks/studies/drconv.py --markers=docs/studies.md --plot=docs/images/study_drconv.png

The claim of the paper (arXiv 2003.12243): regions gain over one dynamic kernel for the whole image, which is the row
"1 region". The network is shufflenet_v2 of configs/fashion_mnist_budget.py.

Rows are tuned and trained as in benchmarks/studies/budget.py; `convzoo.benchmarks.studies.tuned_study` says what is
written.
"""

from convzoo.benchmarks.studies.tuned_study import Row, TunedStudy, learning_rates_and_decays, run

_CONFIG = "configs/fashion_mnist_budget.py"

STUDY = TunedStudy(
    "drconv",
    rows=[
        Row("static", f"{_CONFIG}:shufflenet_v2"),
        *(
            Row(
                f"{regions} region{'s' * (regions > 1)}",
                f"{_CONFIG}:shufflenet_v2_drconv_1r",
                (f"config.model.operator.regions={regions}",),
                "static" if regions == 1 else "1 region",
            )
            for regions in (1, 2, 4, 8)
        ),
    ],
    grid=learning_rates_and_decays(rates=(0.1, 0.3), decays=(5e-5, 5e-4)),
    tuning_fields=("config.epochs=2.0", "config.eval_every_epochs=2.0"),
)

if __name__ == "__main__":
    run(STUDY)
