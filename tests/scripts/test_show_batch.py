"""What a training feeds its network, drawn as a user does it."""

import numpy as np
import pytest
import tensorflow as tf
from helpers.programs import TINY, run, usage_error

COLORS = {"blue": (10, 20, 250), "red": (240, 30, 20)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two classes of PNG files, each of one color."""
    root = tmp_path_factory.mktemp("images")
    for name, color in COLORS.items():
        (root / "train" / name).mkdir(parents=True)
        for number in range(8):
            png = tf.io.encode_png(np.full((16, 16, 3), color, np.uint8)).numpy()
            (root / "train" / name / f"{number}.png").write_bytes(png)
    return root


def _drawn(folder, output, *arguments):
    result = run(
        "scripts/show_batch.py", f"--config={TINY}", f"--config.data.source=folder:{folder}", f"--output={output}",
        *arguments,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    return result.stdout, tf.io.decode_png(tf.io.read_file(str(output)), channels=3).numpy().astype(int)


def _pixels(drawn, color):
    return (np.abs(drawn - color).max(-1) <= 1).sum()


def test_images_have_their_colors(folder, tmp_path):
    output, drawn = _drawn(folder, tmp_path / "new" / "batch.png")
    assert output.startswith(f"16 images of epoch 0 of train of folder:{folder} written to ")
    for color in COLORS.values():
        assert _pixels(drawn, color) > 8 * 80 * 80  # of eight images
    _, fewer = _drawn(folder, tmp_path / "batch.png", "--count=3", "--epoch=7", "--config.data.repeated_augmentation=3")
    assert fewer.shape[0] < drawn.shape[0]
    # What is repeated is one image.
    pixels = [_pixels(fewer, color) for color in COLORS.values()]
    assert min(pixels) == 0
    assert max(pixels) > 3 * 80 * 80


def test_mixed_images(folder, tmp_path):
    _, drawn = _drawn(folder, tmp_path / "batch.png", "--config.data.mixup=5.0")
    blue, red = (np.array(color, float) for color in COLORS.values())
    # How far a pixel lies on the way from blue to red, and beside it.
    way = (drawn - blue) @ (red - blue) / ((red - blue) @ (red - blue))
    beside = np.abs(drawn - blue - way[..., None] * (red - blue)).max(-1)
    assert ((beside < 2) & (way > 0.1) & (way < 0.9)).sum() > 80 * 80


def test_label_maps_are_drawn_beside_images(tmp_path):
    output = tmp_path / "batch.png"
    result = run("scripts/show_batch.py", f"--config={TINY}:segmentation", "--count=2", f"--output={output}")
    assert result.returncode == 0, result.stderr
    height, width, _ = tf.io.decode_png(tf.io.read_file(str(output))).shape
    assert height > width / 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config.data.repeated_augmentation=0"], "repeated_augmentation=0"),
        (["--config.data.service=localhost:1"], "no data server answers at localhost:1"),
        (["--output=/proc/no/batch.png"], "choose another --output"),
    ],
)
def test_usage_errors_are_one_line(arguments, message, tmp_path):
    output = tmp_path / "batch.png"
    line = usage_error(run("scripts/show_batch.py", f"--config={TINY}", f"--output={output}", *arguments))
    assert line.startswith("show_batch.py: ")
    assert message in line
    assert not output.exists()
