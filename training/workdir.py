"""Identity of a run: the config and the class names in its workdir, and the lock that keeps it to one process."""

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator, Sequence
from typing import TextIO

import keras
import ml_collections
import tensorflow as tf

import convzoo
from convzoo.configs import schema
from convzoo.errors import ConfigError, first_line
from convzoo.files import check_no_pattern, read_text, write_text
from convzoo.training import checkpoints

CONFIG_FILE, CLASSES_FILE = "config.json", "classes.txt"


def save_or_verify_config(
    config: ml_collections.ConfigDict, workdir: str, initialization: dict | None = None, write: bool = True
) -> None:
    """Saves the config of a new run, or verifies that `workdir` belongs to the same experiment.

    Fields that do not influence the result, such as `steps_per_loop`, may differ (see `configs.schema`).

    Args:
        config: The resolved config.
        workdir: Folder of the run, local or gs://.
        initialization: JSON values that describe where the initial weights came from; None for random initialization.
        write: False only verifies; of several workers one writes.

    Raises:
        ConfigError: The workdir contains a different experiment, whose first differing fields are named, or it cannot
            be written.
    """
    path = os.path.join(workdir, CONFIG_FILE)
    new = {
        "convzoo": convzoo.__version__,
        "keras": keras.__version__,
        "tensorflow": tf.__version__,
        "config": json.loads(json.dumps(config.to_dict())),
        **({"initialization": json.loads(json.dumps(initialization))} if initialization else {}),
    }
    if not tf.io.gfile.exists(path) and (checkpoints.list_checkpoints(workdir) or checkpoints.best(workdir)):
        raise ConfigError(
            f"workdir {workdir!r} has checkpoints but no {CONFIG_FILE}, which says what they belong to; restore it or "
            "choose another --workdir"
        )
    if tf.io.gfile.exists(path):
        saved = _read(workdir)
        _verify_same_experiment(saved["config"], new["config"], workdir)
        # Evaluation reads this field from the saved config. And a run that ended before its first checkpoint may start
        # again from a newer checkpoint of another run.
        changed = saved["config"]["data"]["max_corrupt_fraction"] != config.data.max_corrupt_fraction
        if changed:
            saved["config"]["data"]["max_corrupt_fraction"] = config.data.max_corrupt_fraction
        if initialization and new["initialization"] != saved.get("initialization"):
            changed, saved = True, new
        new = saved if changed else None
    if new and write:
        with _write_errors(workdir):
            write_text(path, json.dumps(new, indent=2) + "\n")


def _verify_same_experiment(saved: dict, current: dict, workdir: str) -> None:
    saved, current = flatten(saved), flatten(current)
    differences = [
        f"{name} is {saved.get(name)!r} in the workdir and {current.get(name)!r} now"
        for name in sorted({*saved, *current} - {*schema.fields_that_may_change()})
        if saved.get(name) != current.get(name)
    ]
    if differences:
        more = f" and {len(differences) - 3} more" if len(differences) > 3 else ""
        raise ConfigError(
            f"workdir {workdir!r} contains a different experiment: {'; '.join(differences[:3])}{more}; choose another "
            "--workdir"
        )


def load_config(workdir: str) -> ml_collections.ConfigDict:
    """Returns the locked config of the run in `workdir`. Raises ConfigError where it is missing or invalid."""
    values = _read(workdir)["config"]
    try:
        return schema.from_dict(values)
    except ConfigError as error:
        raise ConfigError(f"{os.path.join(workdir, CONFIG_FILE)} is not a valid config: {error}") from error


def changed_fields(config: ml_collections.ConfigDict, workdir: str) -> dict:
    """Returns the fields that differ from those of the run in `workdir`, by dotted name, except `data.data_dir`."""
    saved, current = flatten(load_config(workdir).to_dict()), flatten(config.to_dict())
    return {name: value for name, value in current.items() if saved.get(name) != value and name != "data.data_dir"}


def load_initialization(workdir: str) -> dict:
    """Returns what `save_or_verify_config` saved as `initialization`; {} for random initialization or no run."""
    return _read(workdir).get("initialization", {}) if has_config(workdir) else {}


def has_config(workdir: str) -> bool:
    """Returns whether `workdir` contains a run."""
    return tf.io.gfile.exists(os.path.join(workdir, CONFIG_FILE))


def _read(workdir: str) -> dict:
    path = os.path.join(workdir, CONFIG_FILE)
    check_no_pattern(workdir, "--workdir")
    if not has_config(workdir):
        raise ConfigError(f"{path} does not exist; give the workdir of a training run")
    try:
        saved = json.loads(read_text(path))
        if not isinstance(saved, dict) or not isinstance(saved["config"], dict):
            raise TypeError("it has no object 'config'")
        if not isinstance(saved.get("initialization", {}), dict):
            raise TypeError("its 'initialization' is not an object")
    except (ValueError, KeyError, TypeError, OSError, RecursionError, tf.errors.OpError) as error:
        raise ConfigError(f"{path} is not a config of convzoo ({first_line(error)}); restore it") from error
    return saved


def flatten(tree: dict, prefix: str = "") -> dict:
    """Returns the leaves of nested dicts by dotted name.

    Example:
        >>> flatten({"seed": 0, "data": {"source": "digits"}})
        {'seed': 0, 'data.source': 'digits'}
    """
    flat = {}
    for name, value in tree.items():
        flat.update(flatten(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value})
    return flat


def check_class_names(names: Sequence[str]) -> None:
    """Raises ConfigError if a class name contains a line break, which classes.txt cannot represent."""
    for label, name in enumerate(names):
        if "\n" in name or "\r" in name:
            raise ConfigError(f"the name of class {label}, {name!r}, contains a line break; rename the class")


def read_class_names(path: str, num_classes: int | None = None) -> list[str]:
    """Returns the lines of a text file, the name of one class each.

    Args:
        path: The file.
        num_classes: Number of classes of the network; None accepts any number of lines.

    Raises:
        ConfigError: The file cannot be read, is not UTF-8 text or names another number of classes, or a line is empty
            or occurs twice.
    """
    try:
        text = read_text(path).removeprefix("\ufeff").removesuffix("\n")
        names = [name.removesuffix("\r") for name in text.split("\n")]
    except (tf.errors.OpError, OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read class names from {path!r} ({first_line(error)}); give a text file") from error
    lines = {}
    for number, name in enumerate(names, start=1):
        if not name.strip():
            raise ConfigError(f"line {number} of {path!r} is empty; each line names a class")
        if name in lines:
            raise ConfigError(f"lines {lines[name]} and {number} of {path!r} are both {name!r}; name each class once")
        lines[name] = number
    if num_classes not in (None, len(names)):
        raise ConfigError(f"{path!r} names {len(names)} classes, the network has {num_classes}; name each once")
    return names


def load_classes(workdir: str) -> list[str] | None:
    """Returns the class names of a run in the order of the labels; None where classes.txt does not exist.

    Raises:
        ConfigError: It cannot be read as UTF-8 text.
    """
    path = os.path.join(workdir, CLASSES_FILE)
    if not tf.io.gfile.exists(path):
        return None
    try:
        # str.splitlines would also split at characters that a name may contain, such as U+2028.
        return read_text(path).removesuffix("\n").split("\n")
    except (UnicodeDecodeError, OSError, tf.errors.OpError) as error:
        raise ConfigError(f"{path!r} is not a UTF-8 text file ({first_line(error)}); restore or delete it") from error


def verify_classes(workdir: str, names: Sequence[str]) -> None:
    """Verifies that the data still has the classes that the run was trained on, in the same order.

    A data source may renumber its classes: `folder:` does so when a folder is added or renamed.

    Args:
        workdir: Folder of the run, local or gs://.
        names: Class names of the data, in the order of the labels.

    Raises:
        ConfigError: The number, the names or the order of the classes changed.
    """
    saved = load_classes(workdir)
    if saved is None:
        return
    path = os.path.join(workdir, CLASSES_FILE)
    if len(saved) != len(names):
        raise ConfigError(
            f"the run in {workdir!r} was trained on {len(saved)} classes and the data has {len(names)}; restore the "
            f"classes listed in {path}"
        )
    for label, (before, now) in enumerate(zip(saved, names, strict=True)):
        if before != now:
            raise ConfigError(
                f"class {label} of the run in {workdir!r} is {before!r} and in the data it is {now!r}; restore the "
                f"classes listed in {path}, or delete that file if classes were only renamed"
            )


def save_or_verify_classes(workdir: str, names: Sequence[str]) -> None:
    """Writes classes.txt for a new run, one name per line, or verifies the existing file. Raises ConfigError."""
    verify_classes(workdir, names)
    check_class_names(names)
    path = os.path.join(workdir, CLASSES_FILE)
    if not tf.io.gfile.exists(path):
        with _write_errors(workdir):
            write_text(path, "".join(f"{name}\n" for name in names))


@contextlib.contextmanager
def lock_workdir(workdir: str, purpose: str = "training") -> Iterator[TextIO | None]:
    """Locks `workdir` for this process while the block runs; the lock ends with the process in any case.

    Object stores and some file systems have no locks: there, two processes in one folder go unnoticed.

    Args:
        workdir: Folder, local or gs://; it is created if it does not exist.
        purpose: Kind of lock; a folder can have one of each kind.

    Yields:
        The locked file, which holds the lock while any process has it open; None where there are no locks.

    Raises:
        ConfigError: Another process holds the lock, or the folder cannot be written.
    """
    if "://" in workdir:
        yield None
        return
    with _write_errors(workdir):
        os.makedirs(workdir, exist_ok=True)
        file = open(os.path.join(workdir, f"{purpose}.lock"), "w")  # noqa: SIM115  closed below
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigError(
                f"another {purpose} runs in --workdir={workdir}; wait for it, stop it or choose another workdir"
            ) from error
        except OSError:
            file = None  # the file system has no locks
        yield file


@contextlib.contextmanager
def _write_errors(workdir):
    try:
        yield
    except (tf.errors.OpError, OSError) as error:
        raise ConfigError(f"cannot write to --workdir={workdir} ({first_line(error)}); choose another") from error
