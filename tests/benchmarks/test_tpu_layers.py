"""benchmarks/tpu_layers.py, as a user runs it."""

import importlib.util
import json

import pytest
from helpers.programs import run, usage_error

installed = pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None, reason="the extra [tpu-compile] is not installed"
)
CASE = "--only=^28x28, 1x1, 192 to 32: uneven 1:3"


@pytest.mark.needs_xla_cpu
@installed
def test_implementations_are_compared_with_the_static_layer(tmp_path):
    records, page = tmp_path / "records.jsonl", tmp_path / "page.md"
    page.write_text("before\n<!-- tpu_layers:v5e -->\n<!-- /tpu_layers:v5e -->\nafter\n")
    flags = (CASE, "--batch=8", f"--records={records}", f"--markers={page}")
    result = run("benchmarks/tpu_layers.py", *flags)
    assert result.returncode == 0, result.stderr
    assert "not compiled" not in result.stdout, result.stdout
    lines = page.read_text().splitlines()
    assert (lines[0], lines[-1]) == ("before", "after")
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line.startswith("| 28x28")]
    assert rows[0][1] == "convolution"
    assert "uneven 1:3 dense" in [row[1] for row in rows]
    assert rows[0][5:8] == ["1.00", "1.00", "1.00"]
    assert all(0.3 < float(ratio) < 5 for row in rows[1:] for ratio in row[5:8])
    # The next run takes the records without compiling.
    kept = [json.loads(line) for line in records.read_text().splitlines()]
    kept[1]["compile_seconds"] = 12345
    records.write_text("".join(json.dumps(record) + "\n" for record in kept))
    assert run("benchmarks/tpu_layers.py", *flags).returncode == 0
    assert " 12345 " in page.read_text()


@pytest.mark.needs_xla_cpu
@installed
def test_compiler_crash_leaves_no_record(tmp_path, broken_compiler):
    flags = (CASE, "--batch=8", f"--records={tmp_path / 'records.jsonl'}")
    result = run("benchmarks/tpu_layers.py", *flags, environment=broken_compiler)
    assert result.returncode == 2
    assert "the next run tries again" in result.stderr
    assert not list(tmp_path.glob("*.jsonl*"))


@pytest.mark.parametrize(
    ("flags", "value"),
    [
        (("--only=nothing",), "--only=nothing"),
        (("--only=(",), "--only=("),
        (("--records={}",), "chip=v6e"),
        (("--records=/proc/x/records.jsonl",), "--records"),
        (("--markers={}",), "<!-- tpu_layers:v5e -->"),
    ],
)
def test_usage_errors(tmp_path, flags, value):
    path = tmp_path / "records.jsonl"
    path.write_text(json.dumps({"kind": "layer", "name": "x", "chip": "v6e"}) + "\n")
    assert value in usage_error(run("benchmarks/tpu_layers.py", *(flag.format(path) for flag in flags)))
