"""The emoji data set from packages of two foundries: splits, background, and invalid packages."""

import json

import numpy as np
import pytest
import tensorflow as tf
from helpers.programs import run, usage_error

CODES = [f"1F{number:03X}" for number in range(20)]


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    """Two packages with a half transparent image of each emoji; Twitter lacks the last one."""
    root = tmp_path_factory.mktemp("packages")
    for foundry, blue in (("google", 0), ("twitter", 200)):
        folder = root / foundry / "img" / foundry / "64"
        folder.mkdir(parents=True)
        emoji = []
        for number, code in enumerate([*CODES, "COMPONENT"]):
            image = np.zeros((4, 4, 4), np.uint8)
            image[2:] = (number, 100, blue, 255)  # the upper half is transparent
            (folder / f"{code}.png").write_bytes(tf.io.encode_png(image).numpy())
            category = "Component" if code == "COMPONENT" else ("Flags", "Food & Drink")[number % 2]
            has_image = {"has_img_google": True, "has_img_twitter": code != CODES[-1]}
            emoji.append({"unified": code, "category": category, "image": f"{code}.png", **has_image})
        (root / foundry / "emoji.json").write_text(json.dumps(emoji))
    return root


def prepare(google, twitter, output):
    return run("scripts/prepare_emoji.py", f"--google={google}", f"--twitter={twitter}", f"--output={output}")


def test_splits_and_background(packages, tmp_path):
    output = tmp_path / "new" / "emoji"
    result = prepare(packages / "google", packages / "twitter", output)
    assert result.returncode == 0, result.stderr
    names = {
        split: {path.stem for path in (output / split).rglob("*.png")} for split in ("train", "validation", "test")
    }
    assert names["train"] | names["validation"] == set(CODES)
    assert not names["train"] & names["validation"]
    assert names["train"]
    assert names["test"] == names["validation"] - {CODES[-1]} != set()
    assert f"train {len(names['train'])}" in result.stdout
    for split, blue in (("train", 0), ("test", 200)):
        path = next((output / split).rglob("*.png"))
        number = CODES.index(path.stem)
        assert path.parent.name == ("Flags", "Food & Drink")[number % 2]
        image = tf.io.decode_png(tf.io.read_file(str(path))).numpy()
        assert image.shape == (4, 4, 3)
        assert image[0, 0].tolist() == [255, 255, 255]
        assert image[3, 3].tolist() == [number, 100, blue]
    assert [path.name for path in output.parent.iterdir()] == ["emoji"]
    assert "exists" in usage_error(prepare(packages / "google", packages / "twitter", output))


def test_invalid_packages(packages, tmp_path):
    output = tmp_path / "emoji"
    assert "emoji.json" in usage_error(prepare(tmp_path / "nothing", packages / "twitter", output))
    swapped = usage_error(prepare(packages / "twitter", packages / "google", output))
    assert "twitter" in swapped
    assert "google" in swapped
    assert not list(tmp_path.iterdir())
