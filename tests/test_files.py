"""Output files and folders: whole or not at all, and nothing else is touched."""

import os
import signal
import subprocess
import sys
import time

import pytest

from convzoo import files
from convzoo.errors import ConfigError


def _part(path, pid, ending="", space=None):
    """Returns the temporary path of process `pid` beside `path`; `space` is another container."""
    return path.parent / f".{path.name}.{files._HOST}.{space or files._process_space()}.{pid}.0.part{ending}"


@pytest.fixture
def dead():
    """Returns the number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_an_error_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "new" / "a.txt"
    files.write_text(str(path), "old\r\n")
    with pytest.raises(ZeroDivisionError), files.new_file(path):
        1 / 0  # noqa: B018
    assert files.read_text(str(path)) == "old\r\n"
    path.chmod(0o640)
    files.write_bytes(str(path), b"new")
    assert (path.read_text(), path.stat().st_mode & 0o777) == ("new", 0o640)
    assert os.listdir(path.parent) == ["a.txt"]


def test_a_link_stays_and_devices_pipes_and_folders_are_refused(tmp_path):
    link, path = tmp_path / "link", tmp_path / "there" / "a.txt"
    path.parent.mkdir()
    link.symlink_to(path)
    files.write_text(str(link), "text")
    assert (path.read_text(), link.is_symlink()) == ("text", True)
    os.mkfifo(tmp_path / "pipe")
    for other in ("/dev/null", "/dev/full", tmp_path / "pipe", tmp_path):
        with pytest.raises(OSError, match="not a regular file"):
            files.write_text(str(other), "text")
    assert not os.path.isfile("/dev/null")


def test_only_what_a_killed_process_left_is_removed(tmp_path, dead):
    path = tmp_path / "a.txt"
    foreign = ["a.txt.part", ".a.txt.part", ".b.txt.host.1.0.part", f".a.txt.other-host.{dead}.0.part"]
    for name in foreign:
        (tmp_path / name).write_text("of the user")
    _part(path, os.getppid()).write_text("of a running process")
    _part(path, dead, ".weights.h5").write_text("left behind")
    files.write_text(str(path), "text")
    left = {entry.name for entry in tmp_path.iterdir()}
    assert left == {"a.txt", _part(path, os.getppid()).name, *foreign}


def test_processes_of_another_container_may_be_running_for_a_day(tmp_path, dead):
    path = tmp_path / "a.txt"
    _part(path, dead, space="new1").write_text("of another container")
    old = _part(path, dead, space="old1")
    old.mkdir()
    (old / "b.txt").write_text("left behind")
    for entry in (old, old / "b.txt"):
        os.utime(entry, (0, time.time() - 25 * 3600))
    files.write_text(str(path), "text")
    assert {entry.name for entry in tmp_path.iterdir()} == {"a.txt", _part(path, dead, space="new1").name}


@pytest.mark.parametrize("exchange", [True, False])
def test_a_folder_is_replaced_as_a_whole(exchange, tmp_path, monkeypatch):
    if not exchange:  # as on file systems that cannot exchange names
        monkeypatch.setattr(files.ctypes, "CDLL", lambda *arguments, **keywords: object())
    path, link = tmp_path / "export", tmp_path / "link"
    link.symlink_to(path)
    for text in ("first", "second"):
        with files.new_folder(link) as temporary:
            (tmp_path / temporary / "a.txt").write_text(text)
        assert (path / "a.txt").read_text() == text
        assert sorted(entry.name for entry in tmp_path.iterdir()) == ["export", "link"]
    with pytest.raises(ZeroDivisionError), files.new_folder(path) as temporary:
        1 / 0  # noqa: B018
    assert (path / "a.txt").read_text() == "second"
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError), files.new_folder(tmp_path / "file"):
        pass


def test_a_folder_moved_aside_by_a_killed_process_comes_back(tmp_path, dead):
    path = tmp_path / "export"
    aside, unfinished = _part(path, dead, files._ASIDE), _part(path, dead)
    aside.mkdir()
    (aside / "a.txt").write_text("the last whole copy")
    unfinished.mkdir()
    files.remove_abandoned(str(path))
    assert (path / "a.txt").read_text() == "the last whole copy"
    assert os.listdir(tmp_path) == ["export"]


_REPLACE_FOR_EVER = """
import sys
from convzoo import files
for number in range(10**9):
    with files.new_folder(sys.argv[1]) as folder:
        for name in "ab":
            open(f"{folder}/{name}", "w").write(str(number))
"""


def test_killed_at_any_moment_a_whole_folder_remains(tmp_path):
    path = tmp_path / "export"
    (tmp_path / "export.old").mkdir()  # of the user
    for attempt in range(10):
        process = subprocess.Popen([sys.executable, "-c", _REPLACE_FOR_EVER, str(path)])
        while not path.exists():
            time.sleep(0.01)
        time.sleep(0.1 + 0.013 * attempt)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert sorted(os.listdir(path)) == ["a", "b"]
        assert (path / "a").read_text() == (path / "b").read_text()
    files.remove_abandoned(str(path))
    assert sorted(os.listdir(tmp_path)) == ["export", "export.old"]


@pytest.mark.parametrize("path", ["runs/lr=[0.1,0.2]", "a*", "b?/c", "d\\e"])
def test_paths_that_tensorflow_takes_for_patterns_are_refused(path):
    with pytest.raises(ConfigError, match="pattern"):
        files.check_no_pattern(path, "--workdir")


@pytest.mark.parametrize(
    "name", ["config.json", "classes.txt", "metrics.jsonl", "checkpoints/ckpt-1.index", "best/info.json"]
)
def test_an_output_replaces_no_file_of_a_run(name, tmp_path):
    for file in ("config.json", name):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text("of the run")
    with pytest.raises(OSError, match="training run"):
        files.write_output(str(tmp_path / name), b"text")
    assert (tmp_path / name).read_text() == "of the run"
    for new in ("result.json", "evaluations/config.json", "checkpoints/note.txt"):
        files.write_output(str(tmp_path / new), b"text")
    (tmp_path / "config.json").unlink()
    files.write_output(str(tmp_path / "metrics.jsonl"), b"text")  # of no run
