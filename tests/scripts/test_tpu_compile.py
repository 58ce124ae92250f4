"""scripts/tpu_compile.py, as a user runs it."""

import importlib.util
import json

import pytest
from helpers.programs import TINY, run, usage_error

installed = pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None, reason="the extra [tpu-compile] is not installed"
)


@pytest.mark.needs_xla_cpu
@installed
def test_rows(tmp_path):
    output = tmp_path / "found.json"
    result = run(
        "scripts/tpu_compile.py", f"--config={TINY}", "--set=wide: config.model.overrides.width_coefficient=1.0",
        "--mode=serve", "--batch=32", "--topology=v6e", "--by_layer", f"--output={output}",
        "--set=exact: config.precision=float32",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert "not run" in result.stdout
    assert "block2_expand_conv" in result.stdout
    first, second, third = json.loads(output.read_text())
    assert [row["name"] for row in (first, second, third)] == ["tiny", "tiny wide", "tiny exact"]
    assert (first["precision"], third["precision"]) == ("mixed_bfloat16", "float32")
    assert third["bytes_accessed"] > 1.2 * first["bytes_accessed"]
    assert second["flops"] > first["flops"]
    *_, one, other, _ = result.stdout.splitlines()
    assert one.split()[-3:] == ["1.00", "1.00", "1.00"]
    assert float(other.split()[-3]) == pytest.approx(
        second["cost_analysis_seconds"] / first["cost_analysis_seconds"], abs=0.006
    )


@installed
@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ((), "--config is missing"),
        ((f"--config={TINY}", "--topology=v3"), "v3"),
        ((f"--config={TINY}", "--set=wide"), "cannot read --set='wide'"),
        ((f"--config={TINY}", "--override=config.nope=1"), "the config has no field 'nope'"),
        (("--config=nope.py",), "nope.py"),
        ((f"--config={TINY}", "--override=config.batch_size=32"), "--batch"),
        ((f"--config={TINY}", f"--config={TINY}"), "'tiny'"),
        ((f"--config={TINY}", "--chips=4", "--mode=eval"), "--chips=4"),
        (
            (f"--config={TINY}", "--override=config.data.source=idx:/nowhere", "--chips=8"),
            "/nowhere",
        ),
        ((f"--config={TINY}", "--chips=8", "--override=config.data.train_split=bogus"), "bogus"),
        ((f"--config={TINY}", "--set=a: config.model.name=resnet18zz"), "resnet18zz"),
        ((f"--config={TINY}", "--output=/proc/x/found.json"), "choose another --output"),
        (
            (f"--config={TINY}", "--batch=9", "--override=config.gradient_accumulation_steps=2"),
            "gradient_accumulation_steps=2",
        ),
    ],
)
def test_refused(flags, message):
    assert message in usage_error(run("scripts/tpu_compile.py", *flags))
