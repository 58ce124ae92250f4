"""One training at a time in a workdir."""

import contextlib
import fcntl
import os
from collections.abc import Iterator

from convzoo.training.config import ConfigError, first_line

FILE = "train.lock"


@contextlib.contextmanager
def held(workdir: str) -> Iterator[None]:
    """Holds `workdir` for this process; the lock ends with the process, however that ends.

    Cloud storage and some file systems have no such locks: there two runs in one folder are not noticed.

    Raises:
        ConfigError: Another training holds it, or the lock cannot be made.
    """
    if "://" in workdir:
        yield
        return
    try:
        os.makedirs(workdir, exist_ok=True)
        file = open(os.path.join(workdir, FILE), "w")  # noqa: SIM115  closed below
    except OSError as error:
        raise ConfigError(f"cannot write to --workdir={workdir} ({first_line(error)}); choose another") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigError(
                f"another training runs in --workdir={workdir}; wait for it, stop it or choose another"
            ) from error
        except OSError:
            pass  # some file systems have no locks, as cloud storage has none
        yield
