"""The four operators beside their static counterparts at one budget of multiply-adds: accuracy, intervals and speed.

    apt-get install dataset-fashion-mnist
    python benchmarks/studies/budget.py --markers=docs/studies.md --plot=docs/images/study_budget.png

The networks are those of configs/fashion_mnist_budget.py. Each is tuned over two learning rates and two weight decays
with two epochs each, on the last 5,000 training images, and then trains for six epochs with five seeds. Its first
trainings suggest about four hours in all on two CPU cores; it was not run to its end. See
`convzoo.benchmarks.studies.tuned_study` for what it writes and how it continues.
"""

from convzoo.benchmarks.studies.tuned_study import Row, TunedStudy, learning_rates_and_decays, run

_BASELINES = {
    "mobilenet_v2": "",
    "mobilenet_v2_condconv": "mobilenet_v2",
    "mobilenet_v2_condconv_slow": "mobilenet_v2",
    "seesaw_shuffle": "mobilenet_v2",
    "seesaw_share": "mobilenet_v2",
    "shufflenet_v2": "",
    "shufflenet_v2_drconv_1r": "shufflenet_v2",
    "shufflenet_v2_drconv_4r": "shufflenet_v2",
    "resnet": "",
    "lean": "resnet",
}
STUDY = TunedStudy(
    "budget",
    rows=[
        Row(name, f"configs/fashion_mnist_budget.py:{name}", baseline=baseline) for name, baseline in _BASELINES.items()
    ],
    grid=learning_rates_and_decays(rates=(0.1, 0.3), decays=(5e-5, 5e-4)),
    tuning_fields=("config.epochs=2.0", "config.eval_every_epochs=2.0"),
)

if __name__ == "__main__":
    run(STUDY)
