"""benchmarks/tpu_models.py: the list of networks, and the table of existing records."""

import importlib.util
import json

import pytest
from helpers.programs import run, usage_error

from convzoo import models
from convzoo.benchmarks.baselines import BASELINES

installed = pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None, reason="the extra [tpu-compile] is not installed"
)


def test_every_network_of_the_papers_is_listed():
    listed = [name for baseline, others in BASELINES.items() for name in (baseline, *others)]
    assert len(listed) == len(set(listed))
    # None of the four papers' tables has the larger EfficientNets, EfficientNet-Lite or the networks for faces.
    others = {f"efficientnet_b{number}" for number in range(1, 8)}
    others |= {name for pattern in ("efficientnet_lite*", "*_facenet*") for name in models.list_models(pattern)}
    assert set(models.list_models()) - set(listed) == others


@pytest.fixture
def records(tmp_path):
    record = {
        "kind": "network",
        "chip": "v5e",
        "batch_size": 128,
        "memory_used": 3 * 2**30,
        "cost_analysis_seconds": 0.02,
        "scheduled_seconds": 0.04,
        "bandwidth_bound_seconds": 0.025,
        "images_per_second": {"cost_analysis": 6400.0, "bandwidth_bound": 5120.0, "scheduled": 3200.0},
        "versions": {"jax": "1", "libtpu": "2"},
        "date": "2026-11-01",
    }
    half = {**record, "batch_size": 64, "cost_analysis_seconds": None, "date": "2026-11-02"}
    half["images_per_second"] = {"bandwidth_bound": 2560.0, "scheduled": 1600.0}
    lines = [
        {**record, "name": "resnet34"},
        {**half, "name": "lean_resnet34"},
        {"kind": "network", "name": "resnet18", "chip": "v5e", "error": "unsupported op", "date": "2026-11-01"},
    ]
    path = tmp_path / "records.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_table(records, tmp_path):
    page, kernels = tmp_path / "page.md", tmp_path / "kernels.jsonl"
    page.write_text("before\n<!-- tpu_models:v5e -->\n<!-- /tpu_models:v5e -->\nafter\n")
    problems = [("resnet34", None), ("resnet18", "no TPU kernel for Odd")]
    kernels.write_text(
        "".join(json.dumps({"kind": "kernels", "name": name, "problem": text}) + "\n" for name, text in problems)
    )
    flags = (f"--records={records}", f"--markers={page}", f"--kernels={kernels}", "--table_only")
    result = run("benchmarks/tpu_models.py", *flags)
    assert result.returncode == 1  # one network was not compiled
    lines = page.read_text().splitlines()
    assert (lines[0], lines[-1]) == ("before", "after")
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line.startswith("| ")][1:]
    half = ["", "2,560", "1,600", "", "2.00", "2.00"]
    assert rows == [
        ["resnet34", "128", "3.00", "20.00", "25.00", "40.00", "6,400", "5,120", "3,200", "", "", "", "supported"],
        ["lean_resnet34", "64", "3.00", "", "25.00", "40.00", *half, "not checked"],
        ["resnet18 (not compiled: unsupported op)", *[""] * 11, "no TPU kernel for Odd"],
    ]
    assert "3 networks on one v5e chip; 2026-11-01 to 2026-11-02; jax 1, libtpu 2." in lines


@pytest.mark.needs_xla_cpu
@installed
def test_compiler_crash_leaves_no_record(tmp_path, broken_compiler):
    flags = (f"--records={tmp_path / 'records.jsonl'}", "--networks=lean_resnet18_cifar")
    result = run("benchmarks/tpu_models.py", *flags, environment=broken_compiler)
    assert result.returncode == 2
    assert "lean_resnet18_cifar: " in result.stderr
    assert not list(tmp_path.glob("*.jsonl*"))


@pytest.mark.parametrize(
    ("flags", "value"),
    [
        ((), "--records"),
        (("--records=x", "--networks=nothing"), "--networks=nothing"),
        (("--records=x", "--markers=README.md"), "<!-- tpu_models:v5e -->"),
        (("--records=x", "--kernels=pyproject.toml", "--table_only"), "pyproject.toml"),
        (("--records=/proc/x/y",), "--records"),
        (("--records=docs/records/tpu_v5e.jsonl", "--topology=v6e"), "chip=v5e"),
        (("--records=x", "--table_only"), "--records=x"),
    ],
)
def test_usage_errors(flags, value):
    assert value in usage_error(run("benchmarks/tpu_models.py", *flags))
