"""Input of a run: augmentations, corrupt images, data servers."""

import io
import math
import socket
import time

import pytest
from helpers import tiny
from helpers.programs import TINY, run, usage_error
from PIL import Image

from convzoo import data
from convzoo.training import experiment
from convzoo.training.devices import connect
from convzoo.training.loop import train
from convzoo.training.metrics import read_metrics


def test_run_with_all_augmentations(tmp_path):
    config = tiny.get_config()
    config.epochs = 1.0
    config.gradient_accumulation_steps = 2
    config.data.color_jitter = (0.4, 0.4, 0.4)
    config.data.rand_augment = (2, 10.0)
    config.data.random_erasing, config.data.mixup, config.data.cutmix, config.data.repeated_augmentation = (
        0.5,
        0.2,
        1.0,
        2,
    )
    config.data.interpolation = "bilinear"
    assert experiment.input_settings(config)["interpolation"] == "bilinear"
    train(config, str(tmp_path), connect(devices="cpu"))
    lines = read_metrics(str(tmp_path))
    assert lines[-1]["step"] == 8
    assert all(math.isfinite(value) for line in lines for value in line.values())


def test_augmentation_of_a_config():
    config = tiny.get_config()
    assert experiment.augmentation(config) == data.Augmentation()
    config.data.crop_area, config.data.crop_padding, config.data.auto_augment = None, 4, True
    config.data.rand_augment = [2, 10.0]  # JSON has no tuples
    expected = data.Augmentation(crop_area=None, crop_padding=4, auto_augment=True, rand_augment=(2, 10.0))
    assert experiment.augmentation(config) == expected


@pytest.fixture
def images(tmp_path):
    """A folder of 20 images of two classes; one image is corrupt."""
    for number in range(20):
        folder = tmp_path / "images" / "train" / "ab"[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        content = io.BytesIO()
        Image.new("RGB", (16, 16), (number, 0, 0)).save(content, "JPEG")
        (folder / f"{number}.jpg").write_bytes(content.getvalue() if number != 7 else b"no image")
    return tmp_path / "images"


def test_too_many_corrupt_images_end_the_run(images, tmp_path):
    flags = [
        f"--config={TINY}:regions", f"--workdir={tmp_path / 'run'}", f"--config.data.source=folder:{images}",
        "--config.data.eval_split=train", "--config.batch_size=4", "--config.epochs=2", "--config.eval_every_epochs=2",
        "--devices=cpu",
    ]  # fmt: skip
    message = usage_error(run("train.py", *flags))
    for part in ("/train/b/7.jpg", "config.data.max_corrupt_fraction"):
        assert part in message, message
    # With a higher limit the run resumes, and evaluation uses the higher limit too.
    resumed = run("train.py", *flags, "--config.data.max_corrupt_fraction=0.1")
    assert resumed.returncode == 0, resumed.stderr
    assert "7.jpg" in resumed.stderr
    assert read_metrics(str(tmp_path / "run"))[-1]["eval/examples"] == 19
    evaluated = run("eval.py", f"--workdir={tmp_path / 'run'}", "--devices=cpu")
    assert evaluated.returncode == 0, evaluated.stderr
    assert " 19 " in evaluated.stdout


@pytest.mark.parametrize(
    ("service", "part"),
    [
        ("localhost", "'localhost'"),
        ("localhost:0", "localhost:0"),
        ("localhost:1,localhost:1", "localhost:1,localhost:1"),
        ("localhost:1", "localhost:1"),
    ],
)
def test_invalid_or_unreachable_servers(tmp_path, service, part):
    result = run("train.py", f"--config={TINY}", f"--workdir={tmp_path}", f"--config.data.service={service}")
    assert part in usage_error(result)


def test_unreachable_server_is_reported_once():
    lost = []
    with socket.create_server(("localhost", 0)) as server:
        address = f"localhost:{server.getsockname()[1]}"
        with data.watch_servers(address, lost.append, seconds=0.3, pause=0.05):
            time.sleep(0.6)
            assert not lost
            server.close()
            end = time.monotonic() + 20
            while not lost and time.monotonic() < end:
                time.sleep(0.05)
            time.sleep(0.3)
    assert lost == [address]
