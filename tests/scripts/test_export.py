"""The export of a file of weights in each format, as a user runs it, and the classification of an image with it."""

import re

import keras
import pytest
from helpers.programs import run, usage_error

from convzoo import models, serving

NAME, SIZE = "mobilenet_v1_drconv_x0_25", 16
OVERRIDES = {"blocks": ((16, 2),), "stem_strides": 1, "operator": models.DRConv(regions=2, bank_size=2)}
SOURCE = "fake:classes=3,size=20,examples=12"
EXPORT = "scripts/export.py"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("export")
    keras.utils.set_random_seed(0)
    model = models.create_model(NAME, 3, (SIZE, SIZE, 3), **OVERRIDES)
    models.save_weights(model, str(folder / "a.weights.h5"), OVERRIDES)
    (folder / "names.txt").write_text("ant\nbee\ncat\n")
    return folder


def weights(folder, *arguments):
    return [EXPORT, f"--checkpoint={folder}/a.weights.h5", f"--image_size={SIZE}", *arguments]


def test_int8(folder):
    path = folder / "a_int8.tflite"
    arguments = weights(folder, f"--source={SOURCE}", "--format=litert", f"--output={path}", "--quantize=int8")
    # Noise of the same distribution looks alike to a network, so that rounding changes the class.
    result = run(*arguments, "--min_agreement=0", "--parity_examples=5", "--calibration_examples=4")
    assert result.returncode == 0, result.stderr
    assert "5 images: top-1 agreement " in result.stdout
    assert not result.stderr
    assert serving.load_model_file(str(path)).metadata["quantize"] == "int8"

    written = path.read_bytes()
    line = usage_error(run(*arguments, "--tolerance=0"))
    assert re.search(
        r"the exported model differs from the network: relative difference .* above the tolerance 0 ", line
    )
    assert path.read_bytes() == written
    assert not [entry for entry in folder.iterdir() if entry.name.endswith(".part")]


@pytest.mark.parametrize("suffix", [".onnx", ".keras"])
def test_classify_with_a_file(suffix, folder, tmp_path):
    path, image = tmp_path / f"a{suffix}", tmp_path / "image.png"
    result = run(*weights(folder, f"--class_names={folder}/names.txt", f"--format={suffix[1:]}", f"--output={path}"))
    assert result.returncode == 0, result.stderr
    assert "compared with the network on generated images (no --source), 64 images: top-1 agreement 100.00%, " in (
        result.stdout
    )
    import tensorflow as tf

    image.write_bytes(tf.io.encode_png(serving.generated_images(1, (30, 40))[0]).numpy())
    result = run("scripts/classify.py", f"--model={path}", image)
    assert result.returncode == 0, result.stderr
    found = dict(re.findall(r"(ant|bee|cat) ([\d.]+)%", result.stdout))
    assert set(found) == {"ant", "bee", "cat"}
    loaded = serving.load_model_file(str(path))
    logits = loaded(loaded.decode(image.read_bytes())[None])["logits"]
    assert float(found["bee"]) == pytest.approx(100 * float(tf.nn.softmax(logits)[0, 1]), abs=0.06)
    if suffix == ".onnx":
        image.write_text("text")
        assert "is not an image" in usage_error(run("scripts/classify.py", f"--model={path}", image))
        path.write_bytes(path.read_bytes()[:200])
        assert f"{path}' has no settings" in usage_error(run("scripts/classify.py", f"--model={path}", image))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--format=tflite"], "format"),
        (["--format=onnx", "--quantize=int8"], "--quantize=int8 applies to --format=litert, not to onnx; leave it out"),
        (["--quantize=float16"], "--quantize=float16 applies to --format=litert, not to saved_model"),
        (
            ["--format=litert", "--calibration_examples=9"],
            "--calibration_examples=9 applies to --quantize=int8, not to",
        ),
        (["--format=litert", "--quantize=int8", "--calibration_examples=0"], "calibration_examples"),
        (["--format=onnx", "--target=tpu"], "--target=tpu applies to --format=saved_model, not to onnx"),
        (["--format=keras", "--max_pixels=9"], "--max_pixels=9 applies to --format=saved_model, not to keras"),
        (["--format=litert", "--quantize=int8", "--class_names=FOLDER/names.txt"], "has none; use --source"),
        (["--format=onnx", f"--source={SOURCE}", "--output=FOLDER/a.tflite"], "a.tflite does not end with .onnx"),
        (["--format=keras", f"--source={SOURCE}", "--output=FOLDER/b.keras"], "b.keras' would be replaced but has no"),
        (["--min_agreement=2"], "min_agreement"),
        (["--tolerance=-1"], "tolerance"),
    ],
)
def test_bad_flags(flags, message, folder):
    (folder / "b.keras").write_text("a file of somebody")
    arguments = [flag.replace("FOLDER", str(folder)) for flag in flags]
    assert message in usage_error(run(*weights(folder, *arguments)))
    assert (folder / "b.keras").read_text() == "a file of somebody"
