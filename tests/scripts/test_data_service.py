"""Data servers started as programs: batches, usage errors and exit statuses."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading

import numpy as np
import pytest
import tensorflow as tf
from helpers.programs import ROOT, run, usage_error

from convzoo import data

PROGRAM = ROOT / "scripts" / "data_service.py"
SECONDS = 120
SETTINGS = {"image_size": (24, 20), "mean": (120.0, 110.0, 100.0), "std": (60.0, 61.0, 62.0), "seed": 3}
# Stands for the one of an environment where nothing is installed yet.
PYTHON = """#!/usr/bin/env bash
case "$1 $2" in
    "-c "*sys.prefix*) echo "$PREFIX" ;;
    "-c "* | "-m pip") ;;
    *) exec "$REAL" "$@" ;;
esac
"""


def _free_ports(count):
    with contextlib.ExitStack() as stack:
        taken = [stack.enter_context(socket.create_server(("", 0))) for _ in range(count)]
        return [server.getsockname()[1] for server in taken]


@contextlib.contextmanager
def _started(program, port, **options):
    """The process of a data server that has said nothing yet."""
    command = [*program, f"--port={port}", "--host=localhost"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, **options) as process:
        watch = threading.Timer(SECONDS, process.kill)
        watch.start()
        try:
            yield process
        finally:
            watch.cancel()
            process.kill()


@pytest.fixture(scope="module")
def servers(tmp_path_factory):
    """`config.data.service` of two servers; the first one runs scripts/data_service.py."""
    folder = tmp_path_factory.mktemp("environment")
    python = folder / "bin" / "python"
    python.parent.mkdir()
    python.write_text(PYTHON)
    python.chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}",
        "VIRTUAL_ENV": str(folder),
        "PREFIX": str(folder),
        "REAL": sys.executable,
    }
    ports = _free_ports(2)
    addresses = [f"localhost:{port}" for port in ports]
    with (
        _started([ROOT / "scripts" / "data_service.sh"], ports[0], env=environment, cwd=folder) as one,
        _started([sys.executable, PROGRAM], ports[1]) as other,
    ):
        assert one.stdout.readline().startswith("installing convzoo")
        for address, process in zip(addresses, (one, other), strict=True):
            line = process.stdout.readline()
            assert line == f"data server at {address}; train with --config.data.service={address},...\n"
        yield ",".join(addresses)
        one.send_signal(signal.SIGTERM)
        other.send_signal(signal.SIGINT)
        assert (one.wait(SECONDS), other.wait(SECONDS)) == (143, 130)
        assert one.stdout.read() + other.stdout.read() == ""


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """folder:... of two classes of noisy JPEGs of several sizes."""
    root = tmp_path_factory.mktemp("photographs")
    draw = np.random.default_rng(0)
    for number in range(23):
        path = root / "train" / ("cat", "dog")[number % 2] / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = draw.integers(0, 256, (30 + number, 60 - number, 3), dtype=np.uint8)
        path.write_bytes(tf.io.encode_jpeg(pixels).numpy())
    return f"folder:{root}"


def _batches(source, **options):
    batches = data.train_dataset(source, "train", batch_size=8, interpolation="bicubic", **SETTINGS, **options)
    return [{name: value.numpy() for name, value in batch.items()} for batch in batches.take(7)]


@pytest.mark.parametrize(
    ("spec", "options"),
    [
        ("digits", {}),
        ("photographs", {"shard": (1, 3), "first_example": 24}),
        ("photographs", {"augmentation": data.Augmentation(color_jitter=(0.4, 0.4, 0.4), mixup=0.2, cutmix=1.0)}),
        ("photographs", {"augmentation": data.Augmentation(repeated_augmentation=2), "first_example": 16}),
        ("photographs", {"shard": (1, 2), "first_example": 5}),
    ],
    ids=["digits", "shard", "mixed", "repeated", "amid"],
)
def test_servers_make_the_batches_of_one_process(servers, photographs, spec, options):
    source = data.open_source(photographs if spec == "photographs" else spec)
    alone = _batches(source, **options)
    assert len(alone) == 7
    for service in (servers, servers.partition(",")[0]):
        for expected, found in zip(alone, _batches(source, service=service, **options), strict=True):
            np.testing.assert_array_equal(found["image"], expected["image"])
            np.testing.assert_array_equal(found["label"], expected["label"])


def test_images_that_no_server_can_read(servers, photographs):
    source = data.open_source(photographs)
    data.check_images(source, "train", servers)
    silent = f"localhost:{_free_ports(1)[0]}"
    assert data.unreachable_servers(f"{servers},{silent}") == [silent]


def test_usage_errors(servers):
    used = servers.rpartition(":")[2]
    free, other = _free_ports(2)
    for flags, message in (
        ([f"--port={used}"], f"--port={used} is not available (Address already in use)"),
        ([f"--port={free}", f"--worker_port={used}"], f"--worker_port={used} is not available"),
        ([f"--port={free}", f"--worker_port={free}"], f"--port and --worker_port are both {free}"),
        ([f"--port={free}", "--host=a:b"], "--host=a:b is not a host name"),
        ([f"--port={other}", "--host=nowhere.invalid"], f"not reachable as nowhere.invalid:{other}; set --host"),
    ):
        line = usage_error(run(PROGRAM, *flags))
        assert line.startswith("data_service.py: ")
        assert message in line
