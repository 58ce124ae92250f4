"""scripts/tpu_forms.py, as a user runs it."""

import importlib.util

import pytest
from helpers.programs import complaint, run

installed = pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None, reason="the extra [tpu-compile] is not installed"
)


@installed
def test_forms_beside_the_plain_layer():
    result = run("scripts/tpu_forms.py", "--only=lean g1 dense", "--batch=8")
    assert result.returncode == 0, result.stderr
    rows = [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in result.stdout.splitlines() if line[:3] == "| 1"
    ]
    assert [row[:2] for row in rows] == [["14x14x256", "full convolution"], ["14x14x256", "lean g1 dense"]]
    assert rows[0][-3:] == ["1.00", "1.00", "1.00"]
    assert all(0.3 < float(ratio) < 3 for ratio in rows[1][-3:])


@installed
def test_no_such_row():
    assert "no row is called --only=nothing" in complaint(run("scripts/tpu_forms.py", "--only=nothing"))
