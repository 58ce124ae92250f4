"""Makes a tuned study: see `convzoo.benchmarks.studies.tuned_study`."""

import fnmatch
import json
import os
import platform
import statistics
from collections.abc import Sequence

import tensorflow as tf
from absl import flags

from convzoo.benchmarks import report
from convzoo.benchmarks.studies.tuned_study import TunedStudy
from convzoo.benchmarks.timing import time_alternating
from convzoo.cli import markdown, plots, program
from convzoo.cli.study import FINISHED, Study, run_keys
from convzoo.cli.study_rows import make_row
from convzoo.cli.study_runner import StudyRunner, divide_cores
from convzoo.configs.schema import from_dict
from convzoo.errors import ConfigError
from convzoo.files import read_text
from convzoo.tasks.drawing import write_png
from convzoo.training.workdir import lock_workdir

_CONFIDENCE = 0.95
_RATE_BATCH, _ROUNDS = 128, 7


def make(study: TunedStudy) -> None:
    """Makes what the record of the study lacks, and writes record, table and plot, as the flags say."""
    workdir = flags.FLAGS.workdir or os.path.join("runs", "studies", study.name)
    path = flags.FLAGS.record or os.path.join("docs", "records", "studies", f"{study.name}.json")
    marker = f"study:{study.name}"
    if flags.FLAGS.markers:
        markdown.check_markers(flags.FLAGS.markers, marker)
    record = _Record(path, workdir)
    if not flags.FLAGS.table_only:
        _train(study, record)
        if {row["name"] for row in record.rows["final"]} - record.values["rates"].keys():
            record.values["rates"] = _measure_rates(record.rows["final"])  # all together: they are compared
            record.write()
    elif not record.rows["final"]:
        raise ConfigError(f"--record={path} has no results; leave out --table_only")
    final = record.parts["final"]
    order = [row.name for row in study.rows]
    final.rows = sorted(record.rows["final"], key=lambda row: order.index(row["name"]))
    text = table(study, final, record.values)
    print(text)
    if flags.FLAGS.markers:
        markdown.write_between(flags.FLAGS.markers, marker, text)
    if flags.FLAGS.plot:
        results = {row["name"]: final.results(row) for row in final.rows}
        points = {name: (value["madds"], value["values"]) for name, value in results.items() if value["values"]}
        write_png(flags.FLAGS.plot, plots.plot_accuracy(points, "multiply-adds", "top-1, %"))


class _Record:
    """The record of a study.

    Attributes:
        values: "settings", the chosen setting of each row and the scores of all, and "rates", images per second.
        parts: The `Study` objects "tuning" and "final". Their rows are those that are trained.
        rows: All rows of each part, also those that this command leaves out.
    """

    def __init__(self, path, workdir):
        self._path, self.values = path, {"settings": {}, "rates": {}}
        self.parts = {name: Study(os.path.join(workdir, name)) for name in ("tuning", "final")}
        if tf.io.gfile.exists(path):
            try:
                self.values = json.loads(read_text(path))
                for name, part in self.parts.items():
                    recorded = self.values.pop(name)
                    part.about, part.rows = recorded["about"], recorded["rows"]
                    part.runs = {**recorded["runs"], **part.runs}  # the workdir also has interrupted runs
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise ConfigError(f"{path} is not the record of a study ({error}); choose another --record") from error
        self.rows = {name: part.rows for name, part in self.parts.items()}

    def select(self, name, rows):
        """Makes `rows` those that a part trains. Returns the part.

        Raises:
            ConfigError: The record has runs of a row that were made with another config.
        """
        configs = {row["name"]: _complete(row["config"]) for row in rows}
        names = configs.keys()
        for known in self.rows[name]:
            is_changed = known["name"] in names and _complete(known["config"]) != configs[known["name"]]
            if is_changed and self.parts[name].runs_with(FINISHED, known):
                raise ConfigError(
                    f"--record={self._path} has runs of {known['name']!r} with another config; choose another --record "
                    "and --workdir"
                )
        self.rows[name] = [*(row for row in self.rows[name] if row["name"] not in names), *rows]
        self.parts[name].rows = rows
        return self.parts[name]

    def write(self):
        parts = {
            name: {"about": part.about, "rows": self.rows[name], "runs": part.runs} for name, part in self.parts.items()
        }
        program.write_output(self._path, json.dumps({**self.values, **parts}, indent=1) + "\n", "record")


def _complete(values):
    """Returns a recorded config with the fields that the schema has got since."""
    return json.dumps(from_dict(values).to_dict(), sort_keys=True)


def _train(study, record):
    """Tunes every row and trains it with its best setting."""
    common = [field.removeprefix("--") for field in flags.FLAGS.override]
    selected = [row for row in study.rows if fnmatch.fnmatchcase(row.name, flags.FLAGS.rows)]
    if not selected:
        raise ConfigError(f"--rows={flags.FLAGS.rows} matches none of {', '.join(row.name for row in study.rows)}")
    rows = {}
    for row in selected:
        for setting, fields in study.grid.items():
            all_fields = [*row.fields, *fields, *study.tuning_fields, *common]
            rows[row, setting] = make_row(f"{row.name}, {setting}", row.config, all_fields, record.rows["tuning"])
    validation = rows[row, setting]["config"]["data"]["eval_split"]
    tuning = _make_runs(study, record, "tuning", list(rows.values()), split=validation, seeds=1)
    final_rows = []
    for row in selected:
        scores = {}
        for setting in study.grid:
            for finished in tuning.runs_with(FINISHED, rows[row, setting]):
                scores[setting] = finished["top1"]
        if not scores:
            raise ConfigError(f"no training of {row.name!r} finished; see the record for its errors")
        best = max(scores, key=scores.get)
        record.values["settings"][row.name] = {"chosen": best, "validation_top1": scores}
        fields = [*row.fields, *study.grid[best], *common]
        final_rows.append(make_row(row.name, row.config, fields, record.rows["final"]))
    _make_runs(study, record, "final", final_rows, split="test", seeds=flags.FLAGS.seeds)


def _make_runs(study, record, name, rows, split, seeds):
    """Makes the missing runs of one part of the study and returns the part."""
    part = record.select(name, rows)
    part.about = {
        "checkpoint": "newest",
        "split": split,
        "command": report.start(f"benchmarks/studies/{study.name}.py")["command"],
        "machine": {"processor": platform.machine(), "cores": report.num_cores()},
    }
    with lock_workdir(part.workdir, "study") as lock:
        StudyRunner(
            part,
            device_flags=[f"--devices={flags.FLAGS.devices}"] if flags.FLAGS.devices else [],
            environment=dict(os.environ),
            core_sets=divide_cores(flags.FLAGS.jobs, flags.FLAGS.devices),
            lock=lock,
            on_run_end=record.write,
        ).run(run_keys(seeds))
    record.write()
    return part


def _measure_rates(rows):
    """Returns the images per second of training and inference of each row, medians of timings in alternation."""
    steps = {}
    for row in rows:
        for mode, step in _steps(row["config"]).items():
            step()
            step()
            steps[row["name"], mode] = step
    seconds = time_alternating(steps, _ROUNDS)
    rates = {}
    for (name, mode), values in seconds.items():
        rates.setdefault(name, {})[mode] = _RATE_BATCH / statistics.median(values)
    return rates


def _steps(values):
    """Returns functions of one training step and of one inference step of a config, which wait for their result."""
    from convzoo.tasks import get_task
    from convzoo.training import experiment
    from convzoo.training.batch_norm import fuse_batch_norm
    from convzoo.training.schedules import make_schedule
    from convzoo.training.state import build_train_state
    from convzoo.training.train_step import step_settings, train_step

    config = from_dict({**values, "batch_size": _RATE_BATCH})
    num_classes = experiment.open_source(config).num_classes
    state = build_train_state(config, num_classes, make_schedule(config, 1000, 100.0))
    inference_model = experiment.build_model(config, num_classes)
    fuse_batch_norm(state.model)
    size = experiment.input_settings(config)["image_size"]
    batch = {
        "image": tf.random.stateless_normal((_RATE_BATCH, *size, 3), (0, 0)),
        "label": tf.range(_RATE_BATCH, dtype=tf.int32) % num_classes,
    }
    settings = step_settings(config, get_task(config))
    train = tf.function(lambda batch: train_step(state, batch, **settings)["loss"])
    infer = tf.function(lambda batch: tf.reduce_sum(inference_model(batch["image"], training=False)))
    return {"train": lambda: float(train(batch)), "inference": lambda: float(infer(batch))}


def table(study: TunedStudy, final: Study, values: dict) -> str:
    """Returns the table of the finished runs in Markdown, with a line about its origin."""
    results = {row["name"]: final.results(row) for row in final.rows}
    baselines = {row.name: row.baseline for row in study.rows}
    cells = []
    for name, result in results.items():
        top1, rates = result["values"], values["rates"].get(name, {})
        baseline = results.get(baselines.get(name, ""), {}).get("values", [])
        cells.append(
            {
                "row": name,
                "parameters": f"{result['params']:,}",
                "multiply-adds": markdown.quantity(result["madds"]),
                "top-1 %": f"{statistics.mean(top1):.2f}" if top1 else "",
                "runs": str(len(top1)),
                "minus baseline": describe_difference(top1, baseline),
                "baseline": baselines.get(name, ""),
                "setting": values["settings"][name]["chosen"],
                "train images/s": f"{rates['train']:,.0f}" if rates else "",
                "inference images/s": f"{rates['inference']:,.0f}" if rates else "",
            }
        )
    about = final.about
    versions = {run["versions"]["tensorflow"] for row in final.rows for run in final.runs_with(FINISHED, row)}
    return (
        f"{report.table(cells)}\n\nTop-1 on `{about['split']}` after the last step, mean over seeds. Minus baseline: "
        f"difference of means with its {_CONFIDENCE:.0%} interval (Welch's t). The setting is the best of "
        f"{len(study.grid)} on the validation split. Images/s: batch {_RATE_BATCH}, {about['machine']['cores']} CPU "
        f"cores. TensorFlow {', '.join(sorted(versions)) or '-'}. `{about['command']}`\n"
    )


def describe_difference(values: Sequence[float], baseline: Sequence[float]) -> str:
    """Returns the difference of two means with its 95 % confidence interval; "" without two values each.

    Example:
        >>> describe_difference([91.0, 91.2, 91.4], [90.0, 90.2, 90.4])
        '+1.00 [+0.55, +1.45]'
    """
    from scipy import stats

    if min(len(values), len(baseline)) < 2:
        return ""
    interval = stats.ttest_ind(values, baseline, equal_var=False).confidence_interval(_CONFIDENCE)
    difference = statistics.mean(values) - statistics.mean(baseline)
    return f"{difference:+.2f} [{interval.low:+.2f}, {interval.high:+.2f}]"
