"""scripts/tpu_forms.py, as a user runs it."""

import importlib.util
import json

import pytest
from helpers.programs import complaint, run

installed = pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None, reason="the extra [tpu-compile] is not installed"
)


@installed
def test_forms_beside_the_plain_layer(tmp_path):
    output, page = tmp_path / "forms.json", tmp_path / "page.md"
    page.write_text("before\n<!-- tpu_forms:v5e -->\n<!-- /tpu_forms:v5e -->\nafter\n")
    flags = ("--only=uneven 1:3 dense", "--batch=8", f"--output={output}", f"--markers={page}")
    result = run("scripts/tpu_forms.py", *flags)
    assert result.returncode == 0, result.stderr
    assert "not compiled" not in result.stdout, result.stdout
    lines = page.read_text().splitlines()
    assert (lines[0], lines[-1]) == ("before", "after")
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line.startswith("| 28x28")]
    assert [row[:2] for row in rows] == [
        ["28x28, 1x1, 192 to 32", "convolution"], ["28x28, 1x1, 192 to 32", "uneven 1:3 dense"]
    ]  # fmt: skip
    assert rows[0][5:8] == ["1.00", "1.00", "1.00"]
    assert all(0.3 < float(ratio) < 3 for ratio in rows[1][5:8])
    # What was found is not compiled again: the record is taken at its word.
    kept = json.loads(output.read_text())
    kept["rows"]["28x28, 1x1, 192 to 32: uneven 1:3 dense"]["compile_seconds"] = 12345
    output.write_text(json.dumps(kept))
    assert run("scripts/tpu_forms.py", *flags).returncode == 0
    assert " 12345 " in page.read_text()


@installed
def test_a_broken_compiler_is_asked_again(tmp_path, broken_compiler):
    output = tmp_path / "forms.json"
    flags = ("--only=uneven 1:3 dense", "--batch=8", f"--output={output}")
    result = run("scripts/tpu_forms.py", *flags, environment=broken_compiler)
    assert result.returncode == 1
    assert "it is tried again next time" in result.stderr
    assert "the compiler broke" in result.stdout
    assert not output.exists()


@installed
@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--only=nothing",), "no row is called --only=nothing"),
        (("--only=convolution",), "no row is called --only=convolution"),
        (("--output={}",), "is of --topology=v6e --batch=128"),
        (("--output=/proc/x/forms.json",), "choose another --output"),
        (("--markers={}",), "needs one line <!-- tpu_forms:v5e -->"),
    ],
)
def test_refused(tmp_path, flags, message):
    path = tmp_path / "kept.json"
    path.write_text(json.dumps({"topology": "v6e", "batch": 128, "rows": {}}))
    assert message in complaint(run("scripts/tpu_forms.py", *(flag.format(path) for flag in flags)))
