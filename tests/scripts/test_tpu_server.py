"""Servers of a slice's hosts, without TPUs: a training reaches all hosts and finds no chips."""

import concurrent.futures
import contextlib
import os
import signal
import socket

from helpers.programs import ROOT, TINY, run

# The program, which first writes the id of its process into a file.
_SERVER = """
import os, pathlib, runpy, sys
pathlib.Path(sys.argv.pop(1)).write_text(str(os.getpid()))
runpy.run_path("scripts/tpu_server.py", run_name="__main__")
"""


def test_a_training_reaches_the_servers(tmp_path):
    program = tmp_path / "server.py"
    program.write_text(_SERVER)
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("", 0))) for _ in range(2)]
        ports = [taken.getsockname()[1] for taken in sockets]
    with concurrent.futures.ThreadPoolExecutor() as threads:
        servers = [threads.submit(run, program, tmp_path / str(port), f"--port={port}") for port in ports]
        hosts = ",".join(f"grpc://localhost:{port}" for port in ports)
        # Connecting waits for the servers.
        result = run("train.py", f"--config={TINY}", f"--workdir={tmp_path / 'run'}", f"--tpu={hosts}")
        # TensorFlow has replaced the handler of the first signal.
        for port, number in zip(ports, (signal.SIGTERM, signal.SIGINT), strict=True):
            os.kill(int((tmp_path / str(port)).read_text()), number)
        ended = [server.result() for server in servers]
    assert result.returncode == 2, result.stderr
    assert "TPUs not found in the cluster" in result.stderr
    assert not (tmp_path / "run").exists()
    for server, port, status in zip(ended, ports, (143, 130), strict=True):
        assert server.returncode == status, server.stderr
        assert server.stdout == f"serving at grpc://localhost:{port}\n"


def test_a_port_that_is_in_use():
    with socket.create_server(("", 0)) as taken:
        port = taken.getsockname()[1]
        result = run(ROOT / "scripts" / "tpu_server.py", f"--port={port}")
    assert result.returncode == 2, result.stderr
    assert f"tpu_server.py: cannot start a server at --port={port}" in result.stderr
