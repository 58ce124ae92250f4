"""What a training does about its input: mixed labels, broken pictures, data servers that are gone."""

import io
import math
import socket
import time

import numpy as np
import pytest
import tensorflow as tf
from helpers import tiny
from helpers.programs import TINY, complaint, run
from PIL import Image

from convzoo import data
from convzoo.training import experiment
from convzoo.training.config import claim, load
from convzoo.training.devices import connect
from convzoo.training.loop import train
from convzoo.training.records import read_metrics
from convzoo.training.tasks import Classification, cross_entropy


def test_losses_of_shares_are_the_mean_of_losses():
    logits = tf.constant(np.random.default_rng(0).normal(size=(3, 4)), tf.float32)
    one, other, share = tf.constant([0, 1, 3]), tf.constant([2, 1, 0]), tf.constant([0.7, 0.5, 1.0])
    shares = share[:, None] * tf.one_hot(one, 4) + (1 - share[:, None]) * tf.one_hot(other, 4)
    for smoothing in (0.0, 0.1):
        expected = share * cross_entropy(one, logits, smoothing) + (1 - share) * cross_entropy(other, logits, smoothing)
        np.testing.assert_allclose(cross_entropy(shares, logits, smoothing), expected, rtol=1e-5)
    best = tf.argmax(logits, -1, tf.int32)
    np.testing.assert_array_equal(Classification().right(tf.one_hot(best, 4) * 0.6, logits), 1.0)
    np.testing.assert_array_equal(Classification().right(tf.one_hot((best + 1) % 4, 4) * 0.6, logits), 0.0)


def test_a_run_with_all_augmentations(tmp_path):
    config = tiny.get_config()
    config.epochs = 1.0
    config.gradient_accumulation = 2
    config.data.jitter = (0.4, 0.4, 0.4)
    config.data.rand_augment = (2, 10.0)
    config.data.erasing, config.data.mixup, config.data.cutmix, config.data.repeats = 0.5, 0.2, 1.0, 2
    config.data.interpolation = "bilinear"
    assert experiment.input_settings(config)["interpolation"] == "bilinear"
    train(config, str(tmp_path), connect(devices="cpu"))
    lines = read_metrics(str(tmp_path))
    assert lines[-1]["step"] == 8
    assert all(math.isfinite(value) for line in lines for value in line.values())


def test_settings_reach_the_pipeline():
    config = tiny.get_config()
    assert experiment.augmentation(config) == data.Augmentation()
    config.data.crop_padding, config.data.auto_augment = 4, True
    config.data.rand_augment = [2, 10.0]  # as a config that was read again has it
    expected = data.Augmentation(crop_area=None, crop_padding=4, auto_augment=True, rand_augment=(2, 10.0))
    for none in (None, (), [], (None,)):
        with config.ignore_type():
            config.data.crop_area = none
        assert experiment.augmentation(config) == expected


@pytest.fixture
def pictures(tmp_path):
    """A folder of 20 pictures of two classes, one of which is broken."""
    for number in range(20):
        folder = tmp_path / "pictures" / "train" / "ab"[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        content = io.BytesIO()
        Image.new("RGB", (16, 16), (number, 0, 0)).save(content, "JPEG")
        (folder / f"{number}.jpg").write_bytes(content.getvalue() if number != 7 else b"no picture")
    return tmp_path / "pictures"


def test_a_broken_picture_too_many_is_one_line(pictures, tmp_path):
    flags = [
        f"--config={TINY}", f"--workdir={tmp_path / 'run'}", f"--config.data.source=folder:{pictures}",
        "--config.data.eval_split=train", "--config.batch_size=4", "--config.epochs=2", "--config.eval_every_epochs=2",
        "--devices=cpu",
    ]  # fmt: skip
    told = complaint(run("train.py", *flags))
    for part in ("1 pictures of train of folder:", "/train/b/7.jpg", "allows 0 in 20", "config.data.max_broken"):
        assert part in told, told
    # The same run goes on where more are allowed, and evaluation then allows them too.
    went_on = run("train.py", *flags, "--config.data.max_broken=0.1")
    assert went_on.returncode == 0, went_on.stderr
    assert "7.jpg" in went_on.stderr
    assert read_metrics(str(tmp_path / "run"))[-1]["eval/examples"] == 19
    evaluated = run("eval.py", f"--workdir={tmp_path / 'run'}", "--devices=cpu")
    assert evaluated.returncode == 0, evaluated.stderr
    assert " 19 " in evaluated.stdout


def test_how_many_may_be_broken_is_written_anew(tmp_path):
    config = tiny.get_config()
    claim(config, str(tmp_path))
    config.data.max_broken = 0.25
    claim(config, str(tmp_path))
    assert load(str(tmp_path)).data.max_broken == 0.25


@pytest.mark.parametrize(
    ("service", "part"),
    [
        ("localhost", "'localhost' is no address"),
        ("localhost:0", "'localhost:0' is no address"),
        ("localhost:1,localhost:1", "twice"),
        ("localhost:1", "no data server answers at localhost:1; start scripts/data_service.sh"),
    ],
)
def test_mistakes_with_servers(tmp_path, service, part):
    result = run("train.py", f"--config={TINY}", f"--workdir={tmp_path}", f"--config.data.service={service}")
    assert part in complaint(result)


def test_a_silent_server_is_told_of_once():
    lost = []
    with socket.create_server(("localhost", 0)) as server:
        address = f"localhost:{server.getsockname()[1]}"
        with data.watched_servers(address, lost.append, seconds=0.3, pause=0.05):
            time.sleep(0.6)
            assert not lost
            server.close()
            end = time.monotonic() + 20
            while not lost and time.monotonic() < end:
                time.sleep(0.05)
            time.sleep(0.3)
    assert lost == [address]
