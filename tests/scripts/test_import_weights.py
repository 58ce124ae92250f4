"""Importing weights as a user does."""

import keras
import numpy as np
import pytest
from goldens import stand_in
from helpers.programs import ROOT, run, usage_error

from convzoo.models import create_model, read_metadata
from convzoo.porting import SOURCES

NAME = "shufflenet_v2_x1_0"
GOLDEN = f"torchvision_{NAME}"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp("published") / "published.npz"
    np.savez(path, **stand_in.load(GOLDEN))
    return path


def program(checkpoint, output, *arguments):
    return run(
        "scripts/import_weights.py", "--source=torchvision", f"--checkpoint={checkpoint}", f"--model={NAME}",
        f"--output={output}", *arguments,
    )  # fmt: skip


def test_a_file_that_create_model_loads(checkpoint, tmp_path):
    output = tmp_path / "new" / "a.weights.h5"
    result = program(checkpoint, output, "--override=bn_epsilon=1e-5")
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines() == [
        "override layout='torchvision', added for torchvision",
        "override bn_epsilon=1e-05",
        f"{NAME}: 282 variables (weights), 1000 classes, 0 other variables ignored; written to {output}",
    ]
    assert [path.name for path in output.parent.iterdir()] == ["a.weights.h5"]
    metadata = read_metadata(str(output))
    assert metadata.pop("fingerprint")
    assert metadata.pop("checksum")
    assert metadata == {
        "model": NAME,
        "num_classes": 1000,
        "overrides": {"layout": "torchvision", "bn_epsilon": 1e-5},
        "source": "torchvision: weights of published.npz",
    }
    model = create_model(NAME, weights=str(output))
    got = keras.ops.convert_to_numpy(model(stand_in.images(GOLDEN), training=False))
    np.testing.assert_allclose(got, stand_in.logits(GOLDEN), rtol=1e-4, atol=1e-4)
    with pytest.warns(UserWarning, match="starts a new classifier for 10 classes"):
        other = create_model(NAME, num_classes=10, weights=str(output))
    np.testing.assert_array_equal(
        keras.ops.convert_to_numpy(other.get_layer("head_conv").kernel),
        keras.ops.convert_to_numpy(model.get_layer("head_conv").kernel),
    )


@pytest.mark.parametrize(
    ("output", "arguments", "message"),
    [
        ("a.h5", [], "do not end in .weights.h5"),
        ("a.weights.h5", ["--override=layout"], "cannot read --override=layout; write KEY=VALUE"),
        ("a.weights.h5", ["--override=layout=megvii"], "the weights do not fit shufflenet_v2_x1_0: "),
        ("file/a.weights.h5", [], "cannot write"),
        ("", [], "--output is missing; see --help"),
    ],
)
def test_usage_errors_are_one_line(checkpoint, tmp_path, output, arguments, message):
    (tmp_path / "file").write_text("no folder")
    line = usage_error(program(checkpoint, output and tmp_path / output, *arguments))
    assert line.startswith("import_weights.py: ")
    assert message in line
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("source", SOURCES)
def test_the_help_names_every_source(source):
    text = (ROOT / "scripts" / "import_weights.py").read_text()
    flag = text[text.index("SOURCE = ") : text.index("CHECKPOINT = ")]
    assert source in flag
    assert source in text[: text.index("import ast")]
