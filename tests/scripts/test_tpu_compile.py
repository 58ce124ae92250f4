"""scripts/tpu_compile.py, as a user runs it."""

import importlib.util
import json

import pytest
from helpers.programs import TINY, complaint, run

installed = pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None, reason="the extra [tpu-compile] is not installed"
)


@installed
def test_two_rows(tmp_path):
    output = tmp_path / "found.json"
    result = run(
        "scripts/tpu_compile.py", f"--config={TINY}", "--set=wide: config.model.overrides.width_coefficient=1.0",
        "--what=serve", "--batch=32", "--topology=v6e", "--by_layer", "--chips=4", f"--output={output}",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert "not run" in result.stdout
    assert "block2_expand_conv" in result.stdout
    first, second = json.loads(output.read_text())
    assert (first["name"], second["name"]) == ("tiny", "tiny wide")
    assert second["flops"] > first["flops"]
    *_, header, _, one, other = result.stdout.splitlines()
    assert header.split()[-3:] == ["ratio", "by", "schedule"]
    assert one.split()[-2:] == ["1.00", "1.00"]
    assert float(other.split()[-2]) == pytest.approx(second["cost_seconds"] / first["cost_seconds"], abs=0.006)
    # 3 epochs of 128 pictures, on four chips.
    rate = first["images_per_second"]["by_cost"]
    assert first["hours"]["by_cost"] == pytest.approx(3 * 128 / rate / 4 / 3600)


@installed
@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ((), "--config is missing"),
        ((f"--config={TINY}", "--topology=v3"), "v3"),
        ((f"--config={TINY}", "--set=wide"), "cannot read --set='wide'"),
        ((f"--config={TINY}", "--override=config.epoch=1"), "epoch"),
        (
            (f"--config={TINY}", "--override=config.data.source=idx:/nowhere", "--chips=8"),
            "config.data.source 'idx:/nowhere' is not here; tell --examples",
        ),
    ],
)
def test_refused(flags, message):
    assert message in complaint(run("scripts/tpu_compile.py", *flags))
