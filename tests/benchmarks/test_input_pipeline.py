"""The benchmark of the input pipeline as a user runs it, with few images."""

import io
import json
import statistics

import numpy as np
import PIL.Image
import pytest
import tensorflow as tf
from helpers.programs import run, usage_error

from convzoo.data import open_source

STAGES = [
    "unshuffled",
    "read",
    "bare",
    "read, decode, crop, resize, normalize",
    "+ flip",
    "+ jitter",
    "+ AutoAugment",
    "+ mixup",
    "CondConv",
]


def benchmark(*arguments):
    return run("benchmarks/input_pipeline.py", "--images=6", "--cores=1", "--examples=8", "--batch_size=4", *arguments)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A finished run: its output, its folder of images, and the paths of its reports without suffix."""
    folder = tmp_path_factory.mktemp("benchmark_input")
    result = benchmark(
        f"--folder={folder / 'images'}", "--rounds=2", "--images_per_second=1234", f"--output={folder / 'out'}"
    )
    assert result.returncode == 0, result.stderr
    return result.stdout, folder / "images", folder / "out"


def cells(text, column):
    """The cells of one column of the first table, after its title."""
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.split("\n\n")[0].splitlines()]
    return [row[rows[0].index(column)] for row in rows[2:]]


def test_table(made):
    stdout, _, out = made
    text, report = out.with_suffix(".md").read_text(), json.loads(out.with_suffix(".json").read_text())
    assert text in stdout
    stages = cells(text, "stage")
    assert len(stages) == len(STAGES)
    assert all(stage in title for title, stage in zip(stages, STAGES, strict=True))
    assert [list(timings) for timings in report["rounds"]] == [STAGES, STAGES[::-1]]
    for stage, of_bare, added in zip(STAGES, cells(text, "ratio by CPU time"), cells(text, "added"), strict=True):
        rates = [timings[stage]["per_cpu_second"] for timings in report["rounds"]]
        assert min(rates) > 0
        ratios = [r / timings["bare"]["per_cpu_second"] for r, timings in zip(rates, report["rounds"], strict=True)]
        assert of_bare == f"{statistics.median(ratios):.2f} [{min(ratios):.2f} to {max(ratios):.2f}]"
        assert bool(added) == stage.startswith("+")
    assert report["cores"] == 1
    assert report["command"] in text
    assert report["versions"]["tensorflow"] == tf.__version__


def test_cores_that_a_rate_needs(made):
    out = made[2]
    report = json.loads(out.with_suffix(".json").read_text())
    assert "cores for 1,234 images/s" in out.with_suffix(".md").read_text()
    plain, full = out.with_suffix(".md").read_text().split("\n\n")[1].splitlines()[2:]
    for line, stage, wanted in ((plain, "+ flip", "0.95"), (full, "CondConv", "0.60")):
        rate = statistics.median(timings[stage]["per_core"] for timings in report["rounds"])
        of_cpu = statistics.median(timings[stage]["per_cpu_second"] for timings in report["rounds"])
        row = [cell.strip() for cell in line.split("|")[1:-1]]
        assert row[3] == wanted
        assert [int(cell) for cell in row[4:]] == [int(np.ceil(1234 / rate)), int(np.ceil(1234 / of_cpu))]


def test_images(made, tmp_path):
    _, folder, _ = made
    source = open_source(f"tfrecord:{folder}", data_dir=str(tmp_path))
    assert source.splits == {"train": 1536}  # 1024 names of files that have two images or one
    different, labels = set(), set()
    for index in range(4):
        for record in tf.data.TFRecordDataset(str(folder / f"train-{index:05d}-of-01024")).as_numpy_iterator():
            features = tf.train.Example.FromString(record).features.feature
            (encoded,) = features["image/encoded"].bytes_list.value
            with PIL.Image.open(io.BytesIO(encoded)) as image:
                assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (500, 375))
                assert np.asarray(image).std() > 30
            assert 90_000 < len(encoded) < 130_000
            different.add(encoded)
            labels.update(features["image/class/label"].int64_list.value)
    assert len(different) == 6
    assert labels == {1, 2, 3, 4, 5, 6}


_MAKE = """
import runpy, sys
runpy.run_path("benchmarks/input_pipeline.py")["make_images"](sys.argv[1], 6)
"""


def test_images_are_the_same_again(made, tmp_path):
    _, folder, _ = made
    (tmp_path / "make.py").write_text(_MAKE)
    (tmp_path / "empty").mkdir()
    result = run(tmp_path / "make.py", tmp_path / "empty")
    assert result.returncode == 0, result.stderr
    names = sorted(path.name for path in folder.iterdir())
    assert sorted(path.name for path in (tmp_path / "empty").iterdir()) == names
    assert all((tmp_path / "empty" / name).read_bytes() == (folder / name).read_bytes() for name in names)


def test_existing_images_are_reused(tmp_path):
    (tmp_path / "train-00000-of-00002").touch()
    assert "train-00001-of-00002" in usage_error(benchmark(f"--folder={tmp_path}"))
    assert [path.name for path in tmp_path.iterdir()] == ["train-00000-of-00002"]


def test_invalid_arguments(tmp_path):
    (tmp_path / "other.txt").write_text("somebody's")
    line = usage_error(benchmark(f"--folder={tmp_path}"))
    assert f"--folder={tmp_path} cannot be filled" in line
    assert [path.name for path in tmp_path.iterdir()] == ["other.txt"]
    assert "--cores=100000, and this process may use" in usage_error(benchmark("--cores=100000"))
