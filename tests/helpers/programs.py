"""Runs our programs as a user does, each in a process of its own."""

import concurrent.futures
import contextlib
import json
import multiprocessing
import os
import pathlib
import random
import runpy
import socket
import subprocess
import sys
import tempfile

import tensorflow as tf

from convzoo.cli.startup import without_log_messages

ROOT = pathlib.Path(__file__).parent.parent.parent
TINY = ROOT / "tests" / "helpers" / "tiny.py"

# Importing TensorFlow takes longer than most of what is tried here. The processes are forked from one that has done so
# and nothing else: TensorFlow starts its threads with its first operation.
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["convzoo.cli.program", "convzoo.training.evaluation", "convzoo.training.loop"])
_SECONDS = 600
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def run(*arguments, cwd=ROOT, environment=None):
    """The finished process of `python *arguments`, with further variables in its environment."""
    command = [str(argument) for argument in arguments]
    with tempfile.TemporaryFile("w+") as stdout, tempfile.TemporaryFile("w+") as stderr:
        files = [_FORKS.reducer.DupFd(file.fileno()) for file in (stdout, stderr)]
        process = _FORKS.Process(target=_be, args=(command, str(cwd), {**os.environ, **(environment or {})}, files))
        process.start()
        process.join(_SECONDS)
        if process.is_alive():
            process.kill()
            raise subprocess.TimeoutExpired(command, _SECONDS)
        for file in (stdout, stderr):
            file.seek(0)
        return subprocess.CompletedProcess(command, process.exitcode, stdout.read(), stderr.read())


def _be(command, cwd, environment, files):
    """Makes this process that of `python *command`."""
    for number, file in enumerate(files, start=1):
        os.dup2(file.detach(), number)
    os.chdir(cwd)
    os.environ.update(environment)
    sys.path[:0] = filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))
    sys.argv = command
    with without_log_messages():
        tf.config.list_physical_devices()  # here rather than where absl calls a function of the imported TensorFlow
    runpy.run_path(command[0], run_name="__main__")


def run_workers(*commands):
    """The finished processes of several workers of one cluster on this machine, each with its `python *command`."""
    # Free now, of a range that the system gives to nobody, and of a part that is this test process's alone.
    first = 10_000 + 200 * int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    with contextlib.ExitStack() as stack:
        addresses = []
        for port in random.sample(range(first, first + 200), 200):
            with contextlib.suppress(OSError):
                stack.enter_context(socket.create_server(("127.0.0.1", port)))
                addresses.append(f"127.0.0.1:{port}")
            if len(addresses) == len(commands):
                break

    def start(index):
        config = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
        return run(*commands[index], environment={"TF_CONFIG": json.dumps(config)})

    with concurrent.futures.ThreadPoolExecutor(len(commands)) as threads:
        return list(threads.map(start, range(len(commands))))


def usage_error(result):
    """The one line that a mistake is answered with."""
    assert result.returncode == 2, result.stderr
    assert "Traceback" not in result.stderr
    lines = [line for line in result.stderr.splitlines() if line.split(": ")[0].endswith(".py")]
    assert len(lines) == 1, result.stderr
    return lines[0]
