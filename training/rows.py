"""The rows of a comparison, as its flags name them: configs, and changes of them."""

import pathlib
import re
import shlex
from collections.abc import Iterator, Sequence

from convzoo.training.config import ConfigError


def rows(
    configs: Sequence[str], changes: Sequence[str], overrides: Sequence[str]
) -> Iterator[tuple[str, str, list[str]]]:
    """Each config as it is, and once more with each change.

    Args:
        configs: Config files, as "configs/x.py" or "FILE:VARIANT".
        changes: As "NAME: config.FIELD=VALUE ...".
        overrides: Fields that are changed in all rows, as "config.FIELD=VALUE".

    Yields:
        The row's name, its config, and its changed fields.

    Raises:
        ConfigError: One of them cannot be read.
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
            except ValueError:  # an open quotation
                fields = []
            if not re.fullmatch(r"[\w.-]+", label) or not fields:
                raise ConfigError(f"cannot read --set={text!r}; write 'NAME: config.FIELD=VALUE ...'")
            yield f"{name} {label}", config, [*common, *map(_field, fields)]


def _field(text: str) -> str:
    field = text.strip().removeprefix("--")
    if not re.match(r"config\.[\w.]+=", field):
        raise ConfigError(f"cannot read the changed field {text!r}; write config.FIELD=VALUE")
    return field
