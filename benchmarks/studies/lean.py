"""LeanResNet against ResNet, MobileNetV2 and ShuffleNetV2 of equal multiply-adds.

    apt-get install dataset-fashion-mnist
    python benchmarks/studies/lean.py --markers=docs/studies.md --plot=docs/images/study_lean.png

The claim of the paper (arXiv 1910.13157): lean networks mostly win over reduced networks of equal cost. The networks
are those of configs/fashion_mnist_budget.py, 2.2 to 3.3 million multiply-adds; lean rows differ in stencil and group
size, and so in their cost.

Rows are tuned and trained as in benchmarks/studies/budget.py; `convzoo.benchmarks.studies.tuned_study` says what is
written.
"""

from convzoo.benchmarks.studies.tuned_study import Row, TunedStudy, learning_rates_and_decays, run

_CONFIG = "configs/fashion_mnist_budget.py"


def _row(stencil, group_size):
    fields = (f"config.model.operator.stencil={stencil}", f"config.model.operator.group_size={group_size}")
    return Row(f"lean {stencil}, groups of {group_size}", f"{_CONFIG}:lean", fields, "resnet")


STUDY = TunedStudy(
    "lean",
    rows=[
        Row("resnet", f"{_CONFIG}:resnet"),
        Row("mobilenet_v2", f"{_CONFIG}:mobilenet_v2", baseline="resnet"),
        Row("shufflenet_v2", f"{_CONFIG}:shufflenet_v2", baseline="resnet"),
        _row("5-point", 1),
        _row("5-point", 4),
        _row("9-point", 1),
        _row("3-point-alternating", 4),
    ],
    grid=learning_rates_and_decays(rates=(0.1, 0.3), decays=(5e-5, 5e-4)),
    tuning_fields=("config.epochs=2.0", "config.eval_every_epochs=2.0"),
)

if __name__ == "__main__":
    run(STUDY)
