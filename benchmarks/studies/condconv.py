"""CondConv: static networks against 4, 8 and 16 experts, sigmoid and softmax routing, at three widths.

    apt-get install dataset-fashion-mnist
    python benchmarks/studies/condconv.py --markers=docs/studies.md --plot=docs/images/study_condconv.png

The paper (arXiv 1904.04971) claims gains at every width; in its table 3, sigmoid routing is ahead of softmax. Here
routing kernels start at zero and learn at a tenth of the rate, except in the rows "published", and softmax has a
temperature of 30 that falls to 1 in the first third of the training. The network is mobilenet_v2 of
configs/fashion_mnist_budget.py; docs/studies.md has the reason for the slow routing.

Rows are tuned and trained as in benchmarks/studies/budget.py; `convzoo.benchmarks.studies.tuned_study` says what is
written.
"""

from convzoo.benchmarks.studies.tuned_study import Row, TunedStudy, learning_rates_and_decays, run
from convzoo.configs.fashion_mnist_budget import SLOW_ROUTING

_CONFIG = "configs/fashion_mnist_budget.py"
_CONDCONV = {"name": "CondConv", "num_experts": 8, "first_block": 1, "routing_initializer": "zeros"}
_OPERATORS = {
    "8 experts published": {**_CONDCONV, "routing_initializer": "glorot_uniform"},
    "4 experts": {**_CONDCONV, "num_experts": 4},
    "8 experts": _CONDCONV,
    "16 experts": {**_CONDCONV, "num_experts": 16},
    "8 experts softmax": {**_CONDCONV, "routing": "softmax", "temperature": 30.0, "annealing_steps": 860},
}


def _rows(width):
    config, static = f"{_CONFIG}:mobilenet_v2", f"static, width {width}"
    fields = (f"config.model.overrides.width_coefficient={width}",)
    return [
        Row(static, config, fields),
        *(
            Row(f"{name}, width {width}", config, (*fields, *_settings(name, operator)), static)
            for name, operator in _OPERATORS.items()
        ),
    ]


def _settings(name, operator):
    slow = () if "published" in name else (f"config.optimizer.lr_multipliers={SLOW_ROUTING}",)
    return (f"config.model.operator={operator}", *slow)


STUDY = TunedStudy(
    "condconv",
    rows=[row for width in (0.25, 0.5, 1.0) for row in _rows(width)],
    grid=learning_rates_and_decays(rates=(0.1, 0.3), decays=(5e-5, 5e-4)),
    tuning_fields=("config.epochs=2.0", "config.eval_every_epochs=2.0"),
)

if __name__ == "__main__":
    run(STUDY)
