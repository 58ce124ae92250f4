"""One training, or one study, at a time in a folder."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from typing import TextIO

from convzoo.training.config import ConfigError, first_line


@contextlib.contextmanager
def held(workdir: str, what: str = "training") -> Iterator[TextIO | None]:
    """Holds `workdir` for this process; the lock ends with the process, however that ends.

    Cloud storage and some file systems have no such locks: there two in one folder are not noticed.

    Args:
        workdir: The folder, local or gs://; it is made if it is not there.
        what: What it is held for; one of each kind can hold a folder.

    Returns:
        The locked file, which holds the folder as long as any process has it open; None where there are no locks.

    Raises:
        ConfigError: Another one holds the folder, or it cannot be written.
    """
    if "://" in workdir:
        yield None
        return
    try:
        os.makedirs(workdir, exist_ok=True)
        file = open(os.path.join(workdir, f"{what}.lock"), "w")  # noqa: SIM115  closed below
    except OSError as error:
        raise ConfigError(f"cannot write to --workdir={workdir} ({first_line(error)}); choose another") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigError(
                f"another {what} runs in --workdir={workdir}; wait for it, stop it or choose another"
            ) from error
        except OSError:
            # The file system has no locks.
            yield None
            return
        yield file
