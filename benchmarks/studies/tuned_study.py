"""Studies in which every row is tuned alike, and then trained with several seeds.

1. Each row trains once with every setting of one grid, and is evaluated on the validation split of its config.
2. With its best setting, each row trains with seeds 0, 1, ..., and is evaluated once on the test split.
3. Training and inference of all rows are timed in alternation.

The record, a JSON file, has all results. It is written after every run, and the same command continues with what it
lacks, on another machine too. Runs are those of `scripts/study.py`, in WORKDIR/tuning and WORKDIR/final.
"""

import dataclasses
from collections.abc import Sequence

from absl import flags

from convzoo.cli import program

WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the trainings. Default: runs/studies/NAME.")
RECORD = flags.DEFINE_string("record", None, "JSON file of the results. Default: docs/records/studies/NAME.json.")
MARKERS = flags.DEFINE_string(
    "markers", None, "Markdown file; the table is written between <!-- study:NAME --> and its end marker."
)
PLOT = flags.DEFINE_string("plot", None, "PNG file of top-1 over multiply-adds.")
ROWS = flags.DEFINE_string("rows", "*", "Shell pattern of the rows to train, such as mobilenet*.")
SEEDS = flags.DEFINE_integer("seeds", 5, "Trainings of each row.", lower_bound=1)
JOBS = flags.DEFINE_integer("jobs", 1, "Simultaneous trainings, which share the CPU cores.", lower_bound=1)
OVERRIDE = flags.DEFINE_multi_string("override", [], "Override of all trainings, such as config.epochs=1; repeatable.")
TABLE_ONLY = flags.DEFINE_bool("table_only", False, "Train nothing; write table and plot of the record.")
program.define_devices()


@dataclasses.dataclass(frozen=True)
class Row:
    """A row of a study.

    Attributes:
        name: Name in the table.
        config: Config file, such as "configs/x.py:VARIANT".
        fields: Overridden fields, such as "config.FIELD=VALUE".
        baseline: Name of the row that this one is compared with; "" for none.
    """

    name: str
    config: str
    fields: tuple[str, ...] = ()
    baseline: str = ""


@dataclasses.dataclass(frozen=True)
class TunedStudy:
    """A study.

    Attributes:
        name: Name of record, table and plot.
        rows: The compared networks.
        grid: Settings that each row is tuned over: name and overridden fields.
        tuning_fields: Further overridden fields of the tuning, such as fewer epochs.
    """

    name: str
    rows: Sequence[Row]
    grid: dict[str, tuple[str, ...]]
    tuning_fields: tuple[str, ...] = ()


def learning_rates_and_decays(rates: Sequence[float], decays: Sequence[float]) -> dict[str, tuple[str, ...]]:
    """Returns the grid of all pairs of a peak learning rate and a weight decay.

    Example:
        >>> learning_rates_and_decays([0.1], [5e-5])
        {'learning rate 0.1, weight decay 5e-05': ('config.optimizer.learning_rate=0.1', 'config.weight_decay=5e-05')}
    """
    return {
        f"learning rate {rate}, weight decay {decay}": (
            f"config.optimizer.learning_rate={rate}",
            f"config.weight_decay={decay}",
        )
        for rate in rates
        for decay in decays
    }


def run(study: TunedStudy) -> None:
    """Makes what the record of the study lacks, and writes record, table and plot. The program of a study."""

    def main():
        from convzoo.benchmarks.studies import make_study  # imports TensorFlow

        make_study.make(study)

    program.run(main)
