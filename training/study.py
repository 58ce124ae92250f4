"""What a study knows: its rows, what their runs gave, and the table of it."""

import json
import os
import statistics

import tabulate
import tensorflow as tf

from convzoo.training.config import ConfigError
from convzoo.training.files import read_text, write_text
from convzoo.training.markdown import quantity
from convzoo.training.records import read_metrics

FILE, TABLE = "study.json", "table.md"
RATE = "train/images_per_second"
FINISHED, FAILED, INTERRUPTED = "finished", "failed", "interrupted"


class Study:
    """The record of a study, kept in WORKDIR/study.json.

    Attributes:
        about: What holds for all runs: "checkpoint", "split", "command", "machine".
        rows: One dict for each row of the table: "name", "folder", "flags" of train.py, "config", "params", "madds".
        runs: Every run that was begun, by "FOLDER/seed_K": "row", "seed", "status", "seconds" of training in each
            attempt, "commands"; for a finished one "versions", "images_per_second" of training, and what eval.py found,
            "top1" and "top5" as shares of 1; for a failed one "output", what it said last. Runs of rows that a later
            command left out stay here, and not in the table.

    Raises:
        ConfigError: study.json cannot be read.
    """

    def __init__(self, workdir: str):
        self._workdir = workdir
        self.about, self.rows, self.runs = {}, [], {}
        path = os.path.join(workdir, FILE)
        if not tf.io.gfile.exists(path):
            return
        try:
            record = json.loads(read_text(path))
            self.about, self.rows, self.runs = record["about"], record["rows"], record["runs"]
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise ConfigError(f"{path} is no record of a study ({error}); restore it or move it away") from error

    def run(self, row: dict, seed: int) -> dict:
        """The record of one run, a new one if there is none."""
        new = {"status": None, "row": row["name"], "seed": seed, "seconds": []}
        return self.runs.setdefault(f"{row['folder']}/seed_{seed}", new)

    def runs_of(self, row: dict, status: str) -> list[dict]:
        """The runs of a row that ended so, by seed."""
        found = [
            run for key, run in self.runs.items() if key.startswith(f"{row['folder']}/") and run["status"] == status
        ]
        return sorted(found, key=lambda run: run["seed"])

    def write(self) -> None:
        """Writes study.json and table.md, each whole or not at all."""
        record = {"about": self.about, "rows": self.rows, "runs": self.runs}
        write_text(os.path.join(self._workdir, FILE), json.dumps(record, indent=2) + "\n")
        write_text(os.path.join(self._workdir, TABLE), self.table())

    def table(self) -> str:
        """The table in Markdown, with a line on how it was made, and one for each failed run."""
        about = self.about
        cells = [self._cells(row) for row in self.rows]
        align = ("left", *["right"] * 7, "left")
        lines = [tabulate.tabulate(cells, "keys", "pipe", disable_numparse=True, colalign=align), ""]
        best = " (the best on the config's own `eval_split`)" if about["checkpoint"] == "best" else ""
        versions = {run["versions"]["tensorflow"] for row in self.rows for run in self.runs_of(row, FINISHED)}
        lines.append(
            f"Top-1 on `{about['split']}` of each run's {about['checkpoint']} checkpoint{best}: mean ± sample standard "
            f"deviation over the seeds. Images/s and minutes are of training. "
            f"TensorFlow {', '.join(sorted(versions)) or '-'}. `{about['command']}`"
        )
        for row in self.rows:
            lines += [
                f"\nFailed: {row['name']}, seed {run['seed']}: {run['output'][-1]}" for run in self.runs_of(row, FAILED)
            ]
        return "\n".join(lines) + "\n"

    def figures(self, row: dict) -> dict:
        """What a row's finished runs gave: "top1", a list in percent; "images_per_second", their median or None.

        "params" and "madds" of its network besides.
        """
        finished = self.runs_of(row, FINISHED)
        rates = [run["images_per_second"] for run in finished if run.get("images_per_second")]
        return {
            "params": row["params"],
            "madds": row["madds"],
            "top1": [100 * run["top1"] for run in finished],
            "images_per_second": statistics.median(rates) if rates else None,
        }

    def _cells(self, row):
        finished = self.runs_of(row, FINISHED)
        figures = self.figures(row)
        top1, rate = figures["top1"], figures["images_per_second"]
        return {
            "row": row["name"],
            "parameters": f"{row['params']:,}",
            "multiply-adds": quantity(row["madds"]),
            "top-1 %": _mean_and_spread(top1),
            "worst to best": f"{min(top1):.2f} to {max(top1):.2f}" if top1 else "",
            "runs": str(len(top1)),
            "images/s": f"{rate:,.0f}" if rate else "",
            "minutes a run": f"{statistics.mean(sum(run['seconds']) for run in finished) / 60:.1f}" if finished else "",
            "flags of `train.py`": f"`{row['flags']}`",
        }


def training_rate(workdir: str) -> float | None:
    """Images a second of a training: the median over its chunks of steps but the first, in which TensorFlow traces.

    None if there was no other.
    """
    rates = [line[RATE] for line in read_metrics(workdir) if RATE in line][1:]
    return statistics.median(rates) if rates else None


def _mean_and_spread(values):
    if not values:
        return ""
    spread = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.2f}{spread}"
