"""The classes that a run was trained on, by name and in order, in the workdir as classes.txt. A data source may number
them anew later, as `folder:` does when a folder is added or renamed."""

import os
from collections.abc import Sequence

import tensorflow as tf

from convzoo.training.config import ConfigError, first_line
from convzoo.training.files import read_text, write_text

FILE = "classes.txt"


def check_names(names: Sequence[str]) -> None:
    """Raises ConfigError if a name cannot stand on a line of its own."""
    for label, name in enumerate(names):
        if "\n" in name or "\r" in name:
            raise ConfigError(f"the name of class {label}, {name!r}, has a line break; rename it in the data")


def write(workdir: str, names: Sequence[str]) -> None:
    """Writes the list of a run, whole or not at all.

    Args:
        workdir: The run's folder, local or gs://.
        names: One name a class, in the order of the labels.

    Raises:
        ConfigError: A name has a line break, or the workdir cannot be written.
    """
    check_names(names)
    try:
        write_text(_path(workdir), "".join(f"{name}\n" for name in names))
    except (tf.errors.OpError, OSError) as error:
        raise ConfigError(f"cannot write to --workdir={workdir} ({first_line(error)}); choose another") from error


def read(workdir: str) -> list[str] | None:
    """The names of a run's classes in the order of the labels; None for a run of an earlier version, which has no
    list. Raises ConfigError where that cannot be read."""
    if not tf.io.gfile.exists(_path(workdir)):
        return None
    # Not splitlines, which takes more signs for the end of a line than those that are refused.
    try:
        return read_text(_path(workdir)).removesuffix("\n").split("\n")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{_path(workdir)!r} is no UTF-8 text ({error}); restore it, or delete it") from error


def check(workdir: str, names: Sequence[str]) -> None:
    """Finds whether a run, if it has a list, was trained on these classes.

    Args:
        workdir: The run's folder, local or gs://.
        names: Those that the data source has now, in the order of the labels.

    Raises:
        ConfigError: They are others, or in another order.
    """
    before = read(workdir)
    if before is None:
        return
    listed = f"{_path(workdir)} lists them"
    if len(before) != len(names):
        raise ConfigError(
            f"the run in {workdir!r} was trained on {len(before)} classes and the data has {len(names)} now; restore "
            f"the data's classes ({listed})"
        )
    for label, (then, now) in enumerate(zip(before, names, strict=True)):
        if then != now:
            raise ConfigError(
                f"class {label} of the run in {workdir!r} is {then!r} and that of the data {now!r} now; restore the "
                f"data's classes ({listed}; delete that file if only their names are others)"
            )


def keep(workdir: str, names: Sequence[str]) -> None:
    """Checks the classes of a run that goes on, and writes those of one that has no list yet.

    Raises:
        ConfigError: As `check` and `write`.
    """
    check(workdir, names)
    if not tf.io.gfile.exists(_path(workdir)):
        write(workdir, names)


def _path(workdir: str) -> str:
    return os.path.join(workdir, FILE)
