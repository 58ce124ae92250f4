"""The benchmark of networks as a user runs it, on networks and images that are small."""

import json

import pytest
from helpers.programs import run, usage_error

SMALL, LARGER = "mobilenet_v1_x0_25", "mobilenet_v1_x0_5"


def benchmark(*arguments):
    return run("benchmarks/models.py", *arguments)


def test_networks_are_timed_side_by_side(tmp_path):
    result = benchmark(
        f"--models={SMALL},{LARGER}", "--image_size=32", "--batch_size=4", "--repeats=3", "--optimizer=sgd",
        f"--output={tmp_path / 'out'}",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    report = json.loads((tmp_path / "out.json").read_text())
    assert [(entry["model"], entry["mode"]) for entry in report["results"]] == [
        (SMALL, "train"), (LARGER, "train"), (SMALL, "inference"), (LARGER, "inference")
    ]  # fmt: skip
    for first, second in (report["results"][:2], report["results"][2:]):
        assert first["ratio"] == 1.0
        ratios = sorted(b / a for a, b in zip(first["rates"], second["rates"], strict=True))
        assert len(ratios) == 3
        assert second["ratio"] == pytest.approx(ratios[1])
        lower, upper = second["ratio_quartiles"]
        assert ratios[0] <= lower <= second["ratio"] <= upper <= ratios[2]
    assert set(report["versions"]) >= {"python", "tensorflow", "keras", "convzoo"}
    text = (tmp_path / "out.md").read_text()
    assert text.strip() in result.stdout.replace("\n\n\n", "\n\n")
    assert text.count(f"| {LARGER} ") == 2
    assert report["command"] in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--models=mobilenet_v1_x0_26"], "unknown network 'mobilenet_v1_x0_26'"),
        ([f"--models={SMALL}", "--mode=training"], "--mode=training"),
        ([f"--models={SMALL},{SMALL}"], "names a network twice"),
        ([], "--models is missing"),
    ],
)
def test_invalid_arguments(arguments, message):
    assert message in usage_error(benchmark(*arguments))


def test_a_network_of_timm_without_timm(tmp_path, monkeypatch):
    (tmp_path / "timm.py").write_text("raise ModuleNotFoundError('no timm here', name='timm')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    line = usage_error(benchmark(f"--models={SMALL},timm:resnet18"))
    assert "timm:resnet18 needs torch and timm, which cannot be imported (no " in line


# Enough of torch and timm for a step, which fails if TensorFlow is in the same process.
_TIMM = """
import sys
__version__ = "1.0"
def is_model(name):
    return name == "net"
class Model:
    def train(self, mode):
        return self
    def parameters(self):
        return []
    def __call__(self, images):
        assert "tensorflow" not in sys.modules
        return images
def create_model(name, num_classes):
    return Model()
"""
_TORCH = """
import contextlib, types
__version__ = "2.0"
class Tensor(float):
    def sum(self):
        return self
def set_num_threads(number):
    pass
def randn(*shape):
    return Tensor(1.0)
def arange(number):
    return number
optim = types.SimpleNamespace(RMSprop=lambda *a, **k: None, SGD=lambda *a, **k: None)
inference_mode = contextlib.nullcontext
"""


def test_a_network_of_timm_runs_in_a_process_without_tensorflow(tmp_path, monkeypatch):
    (tmp_path / "timm.py").write_text(_TIMM)
    (tmp_path / "torch.py").write_text(_TORCH)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    flags = ("--image_size=32", "--batch_size=4", "--repeats=1", "--mode=inference", "--clock=cpu")
    result = benchmark(f"--models=timm:net,{SMALL}", *flags, f"--output={tmp_path}/out")
    assert result.returncode == 0, result.stderr
    assert (
        json.loads((tmp_path / "out.json").read_text())["versions"].items() >= {"torch": "2.0", "timm": "1.0"}.items()
    )
    assert "| timm:net " in result.stdout
    line = usage_error(benchmark(f"--models={SMALL},timm:other", *flags))
    assert "timm 1.0 has no network 'other'" in line
