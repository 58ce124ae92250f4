"""The record of a study: its rows, the results of their runs, and the table of them."""

import json
import os
import statistics
from typing import NamedTuple

import tabulate
import tensorflow as tf

from convzoo.cli.markdown import quantity
from convzoo.errors import ConfigError
from convzoo.files import read_text, write_text
from convzoo.training.metrics import read_metrics

RECORD_FILE, TABLE_FILE = "study.json", "table.md"
FINISHED, FAILED, INTERRUPTED = "finished", "failed", "interrupted"
_RATE = "train/images_per_second"
_TOP1 = {"name": "top1", "title": "top-1"}  # metric of the rows of older records


class RunKey(NamedTuple):
    """A run of a row.

    Attributes:
        seed: Its `config.seed`.
        fold: Number of the fold that it is evaluated on, counted from 0; None without cross-validation.

    Example:
        >>> RunKey(0).name, RunKey(0, fold=2).label
        ('seed_0', 'seed 0, fold 2')
    """

    seed: int
    fold: int | None = None

    @property
    def name(self) -> str:
        """Its folder in that of the row."""
        return f"seed_{self.seed}" + ("" if self.fold is None else f"_fold_{self.fold}")

    @property
    def label(self) -> str:
        """Its name in messages."""
        return f"seed {self.seed}" + ("" if self.fold is None else f", fold {self.fold}")


def run_keys(seeds: int, folds: int | None = None) -> list[RunKey]:
    """Returns the runs of each row, those of the first seed first.

    Example:
        >>> [key.name for key in run_keys(2)]
        ['seed_0', 'seed_1']
    """
    return [RunKey(seed, fold) for seed in range(seeds) for fold in ([None] if folds is None else range(folds))]


class Study:
    """The record of a study in WORKDIR/study.json.

    Attributes:
        workdir: Folder of the study, local or gs://.
        about: What all runs have in common: "checkpoint", "split", "command", "machine", and the number of "folds" of a
            cross-validation, else None.
        rows: One dictionary for each row of the table: "name", "folder", "flags" of train.py, "config", "params",
            "madds", and the "metric" that is compared: its "name" among the results of eval.py, and its "title". A row
            of a search also has "search", the name of the row that it changes, and "parameters", the values by field.
        runs: All started runs, by "FOLDER/seed_K": "row", "seed", "fold", "status", "commands", and "seconds" of
            training for each attempt. A finished run also has "versions", "images_per_second" of training, and the
            results of eval.py, metrics such as "top1" as shares of 1. A failed run has "output", its last lines. Runs
            of rows that the latest command leaves out stay here; the table does not show them.

    Raises:
        ConfigError: study.json exists and cannot be read.
    """

    def __init__(self, workdir: str):
        self.workdir = workdir
        self.about, self.rows, self.runs = {}, [], {}
        path = os.path.join(workdir, RECORD_FILE)
        if not tf.io.gfile.exists(path):
            return
        try:
            record = json.loads(read_text(path))
            self.about, self.rows, self.runs = record["about"], record["rows"], record["runs"]
            if [type(part) for part in (self.about, self.rows, self.runs)] != [dict, list, dict]:
                raise TypeError("about, rows and runs are not an object, a list and an object")
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigError(f"{path} is not the record of a study ({error}); restore it or move it away") from error

    def run(self, row: dict, key: RunKey) -> dict:
        """Returns the record of a run, which is created if the run was never started."""
        new = {"status": None, "row": row["name"], "seed": key.seed, "fold": key.fold, "seconds": []}
        return self.runs.setdefault(f"{row['folder']}/{key.name}", new)

    def runs_with(self, status: str, row: dict) -> list[dict]:
        """Returns the runs of a row that have this status, ordered by seed and fold."""
        prefix = f"{row['folder']}/"
        runs = [run for key, run in self.runs.items() if key.startswith(prefix) and run["status"] == status]
        return sorted(runs, key=lambda run: (run["seed"], run.get("fold") or 0))

    def results(self, row: dict) -> dict:
        """Returns the results of a row's finished runs.

        Returns:
            "values" of the metric, a list in percent; "images_per_second", the median or None; "params" and "madds" of
            the network.
        """
        metric = row.get("metric", _TOP1)["name"]
        finished = self.runs_with(FINISHED, row)
        rates = [run["images_per_second"] for run in finished if run.get("images_per_second")]
        return {
            "params": row["params"],
            "madds": row["madds"],
            "values": [100 * run[metric] for run in finished],
            "images_per_second": statistics.median(rates) if rates else None,
        }

    def write(self) -> None:
        """Writes study.json and table.md. Each file is replaced as a whole."""
        record = {"about": self.about, "rows": self.rows, "runs": self.runs}
        write_text(os.path.join(self.workdir, RECORD_FILE), json.dumps(record, indent=2) + "\n")
        write_text(os.path.join(self.workdir, TABLE_FILE), self.table())

    @property
    def metric_title(self) -> str:
        """Name of the metric that the rows are compared by, such as "top-1"."""
        return self.rows[0].get("metric", _TOP1)["title"] if self.rows else _TOP1["title"]

    def table(self) -> str:
        """Returns the table in Markdown, followed by a line about its origin and a line for each failed run."""
        about = self.about
        alignment = ("left", *["right"] * 7, "left")
        cells = [self._cells(row) for row in self.rows]
        table = tabulate.tabulate(cells, "keys", "pipe", disable_numparse=True, colalign=alignment)
        best = " (selected on the config's `eval_split`)" if about["checkpoint"] == "best" else ""
        versions = {run["versions"]["tensorflow"] for row in self.rows for run in self.runs_with(FINISHED, row)}
        split, runs = f"`{about['split']}`", "seeds"
        if about.get("folds"):
            split, runs = f"the left-out part of the training split, one of {about['folds']} folds,", "runs"
        lines = [
            table,
            "",
            f"{self.metric_title} on {split} of each run's {about['checkpoint']} checkpoint{best}: mean ± "
            f"sample standard deviation over the {runs}. Images/s and minutes are those of training. "
            f"TensorFlow {', '.join(sorted(versions)) or '-'}. `{about['command']}`",
        ]
        for row in self.rows:
            for run in self.runs_with(FAILED, row):
                label = RunKey(run["seed"], run.get("fold")).label
                lines.append(f"\nFailed: {row['name']}, {label}: {run['output'][-1]}")
        return "\n".join(lines) + "\n"

    def _cells(self, row):
        results, runs = self.results(row), self.runs_with(FINISHED, row)
        values, rate = results["values"], results["images_per_second"]
        return {
            "row": row["name"],
            "parameters": f"{row['params']:,}",
            "multiply-adds": quantity(row["madds"]),
            f"{self.metric_title} %": _mean_and_deviation(values),
            "worst to best": f"{min(values):.2f} to {max(values):.2f}" if values else "",
            "runs": str(len(values)),
            "images/s": f"{rate:,.0f}" if rate else "",
            "minutes per run": f"{statistics.mean(sum(run['seconds']) for run in runs) / 60:.1f}" if runs else "",
            "flags of `train.py`": f"`{row['flags']}`",
        }


def training_rate(workdir: str) -> float | None:
    """Returns the images per second of a training run: the median over the lines of metrics.jsonl.

    The first line is left out, because its time contains the tracing by TensorFlow. None if there are no other lines.
    """
    rates = [line[_RATE] for line in read_metrics(workdir) if _RATE in line][1:]
    return statistics.median(rates) if rates else None


def _mean_and_deviation(values):
    if not values:
        return ""
    deviation = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.2f}{deviation}"
