"""scripts/lr_range_test.py, as a user runs it."""

import json

from helpers.programs import TINY, run


def test_program(tmp_path):
    output, plot = tmp_path / "range.json", tmp_path / "range.png"
    flags = ["--steps=20", f"--output={output}", f"--plot={plot}", "--devices=cpu"]
    result = run("scripts/lr_range_test.py", f"--config={TINY}:regions", *flags)
    assert result.returncode == 0, result.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["range.json", "range.png"]
    found = json.loads(output.read_text())
    assert set(found) == {"learning_rates", "losses", "smoothed_losses", "suggestion"}
    assert plot.read_bytes()[1:4] == b"PNG"
    assert "suggestion" in result.stdout
