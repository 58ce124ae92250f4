"""Rows of a comparison, from the flags --config, --set, --sweep and --override: configs and changed fields."""

import collections
import itertools
import json
import pathlib
import re
import shlex
from collections.abc import Iterable, Iterator, Sequence

from convzoo.errors import ConfigError


def expand_rows(
    configs: Sequence[str], changes: Sequence[str], overrides: Sequence[str], sweeps: Sequence[str] = ()
) -> Iterator[tuple[str, str, list[str]]]:
    """Yields one row for each config, and one for each pair of a config and a change.

    With sweeps, each of these rows becomes one row for every combination of their values.

    Args:
        configs: Config files, such as "configs/x.py" or "FILE:VARIANT".
        changes: Changes, such as "NAME: config.FIELD=VALUE ...".
        overrides: Fields to override in all rows, such as "config.FIELD=VALUE".
        sweeps: Fields with several values, such as "config.FIELD=VALUE,VALUE".

    Yields:
        Name of the row, config file, overridden fields.

    Raises:
        ConfigError: A change, an override or a sweep has another format.

    Example:
        >>> list(expand_rows(["configs/x.py"], ["low: config.optimizer.learning_rate=0.1"], []))
        [('x', 'configs/x.py', []), ('x low', 'configs/x.py', ['config.optimizer.learning_rate=0.1'])]
        >>> [name for name, *_ in expand_rows(["configs/x.py"], [], [], ["config.epochs=1,2"])]
        ['x epochs=1', 'x epochs=2']
    """
    grid = _grid(sweeps)
    for name, path, fields in _expand_changes(configs, changes, overrides):
        for labels, values in grid:
            yield " ".join([name, *labels]), path, [*fields, *values]


def _grid(sweeps):
    """Returns (labels, fields) of every combination; one without labels and fields if there are no sweeps."""
    axes = []
    for text in sweeps:
        field, _, values = _field(text).partition("=")
        try:
            values = split_values(values)
        except ValueError as error:
            raise ConfigError(f"cannot read --sweep={text!r} ({error}); write config.FIELD=VALUE,VALUE") from error
        axes.append([(f"{field.rpartition('.')[2]}={value}", f"{field}={value}") for value in values])
    return [([label for label, _ in cell], [field for _, field in cell]) for cell in itertools.product(*axes)]


def split_values(text: str) -> list[str]:
    """Returns the values between the commas that are not within brackets.

    Raises:
        ValueError: A bracket is not closed or not opened, or a value is empty.

    Example:
        >>> split_values("(), (('*', 0.1),)")
        ['()', "(('*', 0.1),)"]
    """
    values, depth = [""], 0
    for character in text:
        depth += (character in "([{") - (character in ")]}")
        if depth < 0:
            break
        if character == "," and not depth:
            values.append("")
        else:
            values[-1] += character
    if depth:
        raise ValueError("the brackets do not match")
    values = [value.strip() for value in values]
    if not all(values):
        raise ValueError("a value is empty")
    return values


def _expand_changes(configs, changes, overrides):
    common = [_field(text) for text in overrides]
    for config in configs:
        path, _, variant = config.partition(":")
        name = pathlib.PurePath(path).stem + (f":{variant}" if variant else "")
        yield name, config, common
        for text in changes:
            label, _, fields = (part.strip() for part in text.partition(":"))
            try:
                fields = shlex.split(fields)
            except ValueError:  # unbalanced quotes
                fields = []
            if not re.fullmatch(r"[\w.-]+", label) or not fields:
                raise ConfigError(f"cannot read --set={text!r}; write 'NAME: config.FIELD=VALUE ...'")
            yield f"{name} {label}", config, [*common, *map(_field, fields)]


def make_row(name: str, path: str, fields: Sequence[str], known_rows: Sequence[dict] = ()) -> dict:
    """Returns a row as in `convzoo.cli.study.Study.rows`. Builds the network, to count it.

    Args:
        name: Name of the row.
        path: Config file, such as "configs/x.py" or "FILE:VARIANT".
        fields: Overridden fields, such as "config.FIELD=VALUE".
        known_rows: Rows with counts; a row with the same config is not built again.

    Raises:
        ConfigError, DataError, ModelError: The config is invalid, or its data do not exist.
    """
    from convzoo.cli import program
    from convzoo.configs.schema import validate
    from convzoo.models import count
    from convzoo.tasks import get_task
    from convzoo.training import experiment

    config = program.read_config(path, fields)
    validate(config, num_replicas=1)
    task = get_task(config)
    row = {
        "name": name,
        "folder": re.sub(r"[^\w.-]+", "_", name),
        "flags": shlex.join([f"--config={path}", *(f"--{field}" for field in fields)]),
        "config": json.loads(json.dumps(config.to_dict())),
        "metric": {"name": task.best_metric, "title": task.best_metric_title},
    }
    for known in known_rows:
        if known["config"] == row["config"]:  # building a large network is slow
            return {**row, "params": known["params"], "madds": known["madds"]}
    counted = count(experiment.build_model(config, experiment.open_source(config).num_classes))
    return {**row, "params": counted.params, "madds": counted.madds}


def fold_splits(split: str, fold: int, folds: int) -> tuple[list[str], str]:
    """Returns the fields of a run of a cross-validation, and the split of its evaluation.

    Args:
        split: Training split of the config, a name without a slice.
        fold: Number of the left-out part, counted from 0.
        folds: Number of parts.

    Raises:
        ConfigError: The split has a slice, or there are not 2 to 100 folds.

    Example:
        >>> fold_splits("train", 1, 4)
        (['config.data.train_split=train[:25%]+train[50%:]', 'config.data.eval_split=train[25%:50%]'], 'train[25%:50%]')
    """
    if not 2 <= folds <= 100:
        raise ConfigError(f"--folds={folds} is not between 2 and 100")
    if re.search(r"[\[+]", split):
        raise ConfigError(f"--folds divides a whole split, but config.data.train_split is {split!r}; override it")
    start, stop = round(100 * fold / folds), round(100 * (fold + 1) / folds)
    left_out = f"{split}[{start}%:{stop}%]"
    parts = ([f"{split}[:{start}%]"] if start else []) + ([f"{split}[{stop}%:]"] if stop < 100 else [])
    return [f"config.data.train_split={'+'.join(parts)}", f"config.data.eval_split={left_out}"], left_out


def check_unique(names: Iterable[str]) -> None:
    """Raises ConfigError if two rows have the same name."""
    for name, count in collections.Counter(names).items():
        if count > 1:
            raise ConfigError(
                f"{count} rows have the name {name!r}; rename a config file, its variant or a --set, or sweep a "
                "value once"
            )


def _field(text: str) -> str:
    field = text.strip().removeprefix("--")
    if not re.match(r"config\.[\w.]+=", field):
        raise ConfigError(f"cannot read the override {text!r}; write config.FIELD=VALUE")
    return field
