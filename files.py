"""Files and folders that a reader sees either whole or not at all, and that nothing else is lost for.

They are written under a temporary name in the same folder and then take the place of the old ones. The temporary name
says which process writes, so that what a killed process left behind is recognized and removed, and nothing else is.
"""

import contextlib
import ctypes
import errno
import functools
import itertools
import os
import pathlib
import re
import shutil
import socket
import stat
import time
from collections.abc import Iterator

from convzoo.errors import ConfigError

_HOST = re.sub(r"[^\w-]", "_", socket.gethostname()) or "localhost"
_ABANDONED_SECONDS = 24 * 3600  # without a change
_RENAME_EXCHANGE, _AT_FDCWD = 2, -100
_ASIDE = ".old"
# What training writes into its workdir and reads again.
_RUN_FILES = ("config.json", "classes.txt", "metrics.jsonl", "trackers.json")
_RUN_FOLDERS = ("checkpoints", "best", "tensorboard")
_count = itertools.count()


def check_no_pattern(path: str, name: str) -> None:
    """Raises ConfigError if a path, called `name` in the message, contains a character of shell patterns.

    TensorFlow takes the paths of checkpoints and SavedModels for patterns and would not find them again.

    Example:
        >>> check_no_pattern("runs/lr=[0.1]", "--workdir")
        Traceback (most recent call last):
        convzoo.errors.ConfigError: --workdir='runs/lr=[0.1]' contains '[', which TensorFlow takes for a pattern; ...
    """
    if found := re.search(r"[\[*?\\]", path):
        raise ConfigError(
            f"{name}={path!r} contains {found[0]!r}, which TensorFlow takes for a pattern; choose another name"
        )


def read_text(path: str) -> str:
    """Returns the text of the file at `path`, local or gs://, without changing its line breaks."""
    if "://" in path:
        import tensorflow as tf

        with tf.io.gfile.GFile(path) as file:
            return file.read()
    with open(path, encoding="utf-8", newline="") as file:
        return file.read()


def write_bytes(path: str, content: bytes) -> None:
    """Writes `content` to `path`, local or gs://, and creates its folder.

    A concurrent reader gets the old file or the new one, never a part, and an error leaves the old one.
    """
    if "://" in path:  # an object appears when it is complete
        import tensorflow as tf

        with tf.io.gfile.GFile(path, "wb") as file:
            file.write(content)
        return
    with new_file(path) as temporary, open(temporary, "wb") as file:
        file.write(content)


def write_text(path: str, text: str) -> None:
    """Writes `text` to `path`, as `write_bytes` does."""
    write_bytes(path, text.encode())


def write_output(path: str, content: bytes) -> None:
    """Writes `content` to a path that the user chose, as `write_bytes` does. Raises OSError as `check_output` does."""
    check_output(path, content)
    write_bytes(path, content)


def check_output(path: str, content: bytes) -> None:
    """Checks whether `write_output` may write `content` to `path`.

    It replaces only a file of its own kind (PNG, Parquet, JSON or other text), and never one of a training run.

    Raises:
        OSError: The path is a file of a run or of another kind, or anything but a regular file.
    """
    if path.endswith("/"):
        raise OSError(errno.EISDIR, "a folder, not a file", path)
    folder, name = os.path.split(os.path.realpath(path))
    parent, subfolder = os.path.split(folder)
    is_own = name in _RUN_FILES and os.path.exists(os.path.join(folder, _RUN_FILES[0]))
    is_own |= subfolder in _RUN_FOLDERS and os.path.exists(os.path.join(parent, _RUN_FILES[0]))
    if is_own and os.path.exists(path):
        raise OSError(errno.EEXIST, "a file of the training run in that folder", path)
    if os.path.isfile(path):
        with open(path, "rb") as file:
            start = file.read(64)
        if start and _kind(start) != _kind(content):
            raise OSError(errno.EEXIST, f"{_kind(start)} would be replaced by {_kind(content)}", path)
    elif "://" not in path:
        check_replaceable(path)


def _kind(content):
    """Returns the kind of a file, by its first bytes."""
    if content.startswith(b"\x89PNG"):
        return "a PNG file"
    if content.startswith(b"PAR1"):
        return "a Parquet file"
    if content.lstrip()[:1] in (b"{", b"["):
        return "a JSON file"
    is_text = not set(content[:64]) & {*range(7), 0xFF} and not content.startswith(b"\x89")
    return "a text file" if is_text else "a binary file"


@contextlib.contextmanager
def new_file(path: str | os.PathLike, suffix: str = "") -> Iterator[str]:
    """Replaces the file at a local path when the block ends without an error; its folder is created.

    If the path is a symbolic link, the file that it leads to is replaced.

    Args:
        path: The file.
        suffix: End of the temporary name, for writers that look at it.

    Yields:
        The temporary path to write to.

    Raises:
        OSError: The path is something other than a regular file, or the folder cannot be written.

    Example:
        >>> with new_file("folder/a.txt") as temporary:
        ...     _ = open(temporary, "w").write("text")
        >>> open("folder/a.txt").read()
        'text'
    """
    path = os.path.realpath(path)
    check_replaceable(path)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    remove_abandoned(path)
    temporary = _temporary(path) + suffix
    try:
        yield temporary
        if os.path.exists(path):
            shutil.copymode(path, temporary)
        os.replace(temporary, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.remove(temporary)


@contextlib.contextmanager
def new_folder(path: str | os.PathLike) -> Iterator[str]:
    """Replaces the folder at a local path, with all that it contains, when the block ends without an error.

    At every moment either the old or the new folder is there. If the path is a symbolic link, the folder that it leads
    to is replaced.

    Args:
        path: The folder.

    Yields:
        The temporary folder to write to, which is empty.

    Raises:
        OSError: The path is not a folder, or the folder above cannot be written.

    Example:
        >>> with new_folder("folder/export") as temporary:
        ...     _ = open(f"{temporary}/a.txt", "w").write("text")
        >>> os.listdir("folder/export")
        ['a.txt']
    """
    path = os.path.realpath(path)
    if os.path.exists(path) and not os.path.isdir(path):
        raise NotADirectoryError(errno.ENOTDIR, "not a folder", path)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    remove_abandoned(path)
    temporary = _temporary(path)
    os.mkdir(temporary)
    try:
        yield temporary
        try:
            os.rename(temporary, path)  # if there is none, or an empty one
        except OSError:
            _exchange(temporary, path)  # now the temporary name is that of the old folder
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def check_replaceable(path: str | os.PathLike) -> None:
    """Raises OSError unless the local path is free or a regular file.

    Example:
        >>> check_replaceable("/dev/null")
        Traceback (most recent call last):
        OSError: [Errno 22] not a regular file: '/dev/null'
    """
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "not a regular file", str(path))


def remove_abandoned(path: str) -> None:
    """Removes what killed processes of this machine left beside `path` when they were writing it.

    Machines and containers of one name may share a folder and do not see each other's processes. What another one, or
    this one before it was restarted, has left is removed when it has not changed for a day.
    """
    folder, name = os.path.split(path)
    pattern = re.compile(rf"\.{re.escape(name)}\.{re.escape(_HOST)}\.(\w+)\.(\d+)\.\d+\.part(\{_ASIDE})?.*")
    for entry in os.listdir(folder):
        match = pattern.fullmatch(entry)
        abandoned = os.path.join(folder, entry)
        if match and _is_abandoned(abandoned, match[1], int(match[2])):
            if match[3] and not os.path.exists(path):
                os.rename(abandoned, path)  # killed between the two steps of `_exchange`
            elif os.path.isdir(abandoned):
                shutil.rmtree(abandoned, ignore_errors=True)
            else:
                with contextlib.suppress(OSError):
                    os.remove(abandoned)


def _temporary(path):
    folder, name = os.path.split(path)
    return os.path.join(folder, f".{name}.{_HOST}.{_process_space()}.{os.getpid()}.{next(_count)}.part")


@functools.cache
def _process_space():
    """Returns what tells apart the machines, containers and restarts in which a process number has a meaning."""
    with contextlib.suppress(OSError):
        with open("/proc/sys/kernel/random/boot_id") as file:
            boot = file.read().strip().replace("-", "")
        return f"{boot[:8]}{os.stat('/proc/self/ns/pid').st_ino:x}"
    return "0"  # not Linux


def _is_abandoned(path, space, pid):
    if space == _process_space():
        return not _is_running(pid)
    try:
        newest = max(entry.stat().st_mtime for entry in (pathlib.Path(path), *pathlib.Path(path).rglob("*")))
    except OSError:  # somebody is changing it
        return False
    return time.time() - newest > _ABANDONED_SECONDS


def _is_running(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # it belongs to somebody else
        return True
    return True


def _exchange(first, second):
    """Exchanges the names of two folders in one step; in two steps where the file system cannot."""
    libc = ctypes.CDLL(None, use_errno=True)
    renameat2 = getattr(libc, "renameat2", None)
    if renameat2 is not None:
        arguments = (_AT_FDCWD, os.fsencode(first), _AT_FDCWD, os.fsencode(second), _RENAME_EXCHANGE)
        if renameat2(*arguments) == 0:
            return
        error = ctypes.get_errno()
        if error not in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):
            raise OSError(error, os.strerror(error), second)
    aside = f"{first}{_ASIDE}"
    os.rename(second, aside)
    try:
        os.rename(first, second)
    except OSError:
        os.rename(aside, second)
        raise
    os.rename(aside, first)
