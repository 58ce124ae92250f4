"""Runs our programs as a user does, each in a process of its own."""

import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).parent.parent.parent
TINY = ROOT / "tests" / "helpers" / "tiny.py"


def run(*arguments, cwd=ROOT):
    """The finished process of `python *arguments`."""
    return subprocess.run(
        [sys.executable, *map(str, arguments)], cwd=cwd, capture_output=True, text=True, timeout=600, check=False
    )


def complaint(result):
    """The one line that a mistake is answered with; the start-up chatter of TensorFlow is none of it."""
    assert result.returncode == 2, result.stderr
    assert "Traceback" not in result.stderr
    lines = [line for line in result.stderr.splitlines() if line.split(": ")[0].endswith(".py")]
    assert len(lines) == 1, result.stderr
    return lines[0]
