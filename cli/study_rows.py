"""Rows of a comparison, from the flags --config, --set and --override: configs and changed fields."""

import collections
import json
import pathlib
import re
import shlex
from collections.abc import Iterable, Iterator, Sequence

from convzoo.errors import ConfigError


def expand_rows(
    configs: Sequence[str], changes: Sequence[str], overrides: Sequence[str]
) -> Iterator[tuple[str, str, list[str]]]:
    """Yields one row for each config, and one for each pair of a config and a change.

    Args:
        configs: Config files, such as "configs/x.py" or "FILE:VARIANT".
        changes: Changes, such as "NAME: config.FIELD=VALUE ...".
        overrides: Fields to override in all rows, such as "config.FIELD=VALUE".

    Yields:
        Name of the row, config file, overridden fields.

    Raises:
        ConfigError: A change or an override has another format.

    Example:
        >>> list(expand_rows(["configs/x.py"], ["low: config.optimizer.learning_rate=0.1"], []))
        [('x', 'configs/x.py', []), ('x low', 'configs/x.py', ['config.optimizer.learning_rate=0.1'])]
    """
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


def check_unique(names: Iterable[str]) -> None:
    """Raises ConfigError if two rows have the same name."""
    for name, count in collections.Counter(names).items():
        if count > 1:
            raise ConfigError(f"{count} rows have the name {name!r}; rename a config file, its variant or a --set")


def _field(text: str) -> str:
    field = text.strip().removeprefix("--")
    if not re.match(r"config\.[\w.]+=", field):
        raise ConfigError(f"cannot read the override {text!r}; write config.FIELD=VALUE")
    return field
