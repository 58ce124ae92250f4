"""scripts/tpu_table.py: its list of networks, and the table of what was found."""

import importlib.util
import json
import runpy
import sys

import pytest
from helpers.programs import ROOT, complaint, run

from convzoo import models

installed = pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None, reason="the extra [tpu-compile] is not installed"
)


def test_every_network_of_the_papers_is_in_it():
    sys.argv = ["tpu_table.py"]
    twins = runpy.run_path(str(ROOT / "scripts" / "tpu_table.py"), run_name="table")["_TWINS"]
    listed = [name for twin, others in twins.items() for name in (twin, *others)]
    assert len(listed) == len(set(listed))
    # The larger EfficientNets are no network of the four papers.
    assert set(models.list_models()) - set(listed) == {f"efficientnet_b{number}" for number in range(1, 8)}


@pytest.fixture
def workdir(tmp_path):
    folder = tmp_path / "v5e"
    folder.mkdir()
    record = {
        "batch_size": 128,
        "memory_used": 3 * 2**30,
        "cost_seconds": 0.02,
        "scheduled_seconds": 0.04,
        "bytes_seconds": 0.025,
        "images_per_second": {"by_cost": 6400.0, "by_bytes": 5120.0, "by_schedule": 3200.0},
        "versions": {"jax": "1", "libtpu": "2"},
        "date": "2026-11-01",
    }
    (folder / "resnet34.json").write_text(json.dumps(record))
    half = {**record, "batch_size": 64, "cost_seconds": None, "date": "2026-11-02"}
    half["images_per_second"] = {"by_bytes": 2560.0, "by_schedule": 1600.0}
    (folder / "lean_resnet34.json").write_text(json.dumps(half))
    (folder / "resnet18.json").write_text(json.dumps({"error": "too odd"}))
    return tmp_path


def test_the_table(workdir):
    page, ops = workdir / "page.md", workdir / "ops.json"
    page.write_text("before\n<!-- tpu_table:v5e -->\n<!-- /tpu_table:v5e -->\nafter\n")
    ops.write_text(json.dumps({"problems": {"resnet34": None, "resnet18": "a TPU has no operation Odd"}}))
    flags = (f"--workdir={workdir}", f"--markers={page}", f"--ops={ops}", "--table_only")
    result = run("scripts/tpu_table.py", *flags)
    assert result.returncode == 1  # one was not compiled
    lines = page.read_text().splitlines()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line.startswith("| `")]
    assert rows == [
        ["`resnet34`", "128", "3.00", "20.00", "25.00", "40.00", "5,120", "3,200", "", "", "", "legal"],
        ["`lean_resnet34`", "64", "3.00", "", "25.00", "40.00", "2,560", "1,600", "", "2.00", "2.00", "not asked"],
        ["`resnet18`", "", "not compiled: too odd", *[""] * 8, "a TPU has no operation Odd"],
    ]
    assert "3 networks on one v5e chip, 2026-11-01 to 2026-11-02; jax 1, libtpu 2." in lines
    assert lines[0] == "before"
    assert lines[-1] == "after"


@installed
def test_a_broken_compiler_is_asked_again(tmp_path, broken_compiler):
    flags = (f"--workdir={tmp_path}", "--networks=lean_resnet18_cifar")
    result = run("scripts/tpu_table.py", *flags, environment=broken_compiler)
    assert result.returncode == 1
    assert "lean_resnet18_cifar: the compiler ended with status 1: " in result.stderr
    assert "it is tried again next time" in result.stderr
    assert "nothing was compiled" in result.stdout
    assert list((tmp_path / "v5e").iterdir()) == []


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ((), "--workdir is missing"),
        (("--workdir=x", "--networks=nothing"), "no network that is called --networks=nothing"),
        (("--workdir=x", "--markers=README.md"), "needs one line <!-- tpu_table:v5e -->"),
        (("--workdir=x", "--ops=/nowhere.json", "--table_only"), "cannot read /nowhere.json"),
        (("--workdir=x", "--ops=pyproject.toml", "--table_only"), "cannot read pyproject.toml"),
        (("--workdir=x", "--ops=docs/tpu_compile/v5e/resnet34.json", "--table_only"), "is not from scripts/tpu_ops.py"),
        (("--workdir=/proc/x",), "choose another --workdir"),
        (("--workdir=x", "--table_only"), "--workdir=x has nothing of v5e yet"),
    ],
)
def test_refused(flags, message):
    assert message in complaint(run("scripts/tpu_table.py", *flags))
