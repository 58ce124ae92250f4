"""The files that identify a run: config.json, classes.txt, and the lock."""

import json

import pytest
import tensorflow as tf
from helpers import tiny
from helpers.programs import run

from convzoo.errors import ConfigError
from convzoo.training.devices import connect
from convzoo.training.evaluation import CheckpointEvaluator
from convzoo.training.loop import train
from convzoo.training.workdir import (
    load_classes,
    load_config,
    load_initialization,
    lock_workdir,
    save_or_verify_classes,
    save_or_verify_config,
    verify_classes,
)


@pytest.fixture(scope="module")
def devices():
    return connect(devices="cpu")


def test_config_is_saved_once_and_then_verified(tmp_path):
    workdir = str(tmp_path / "run")
    config = tiny.get_config()
    save_or_verify_config(config, workdir)
    saved = (tmp_path / "run" / "config.json").read_bytes()
    save_or_verify_config(config, workdir)
    loaded = load_config(workdir)
    assert loaded.is_locked
    assert loaded.model.overrides.blocks == list(tiny.BLOCKS)
    assert loaded.optimizer.learning_rate == 0.01
    assert set(json.loads(saved)) == {"convzoo", "keras", "tensorflow", "config"}
    config.steps_per_loop = 7  # does not influence the result
    save_or_verify_config(config, workdir)
    assert (tmp_path / "run" / "config.json").read_bytes() == saved
    config.optimizer.learning_rate = 0.02
    with pytest.raises(ConfigError, match=r"different experiment: optimizer.learning_rate is 0.01 .* 0.02"):
        save_or_verify_config(config, workdir)


def test_changed_corrupt_fraction_is_saved_because_evaluation_reads_it(tmp_path):
    config = tiny.get_config()
    save_or_verify_config(config, str(tmp_path))
    config.data.max_corrupt_fraction = 0.25
    save_or_verify_config(config, str(tmp_path), write=False)
    assert load_config(str(tmp_path)).data.max_corrupt_fraction == 0.001
    save_or_verify_config(config, str(tmp_path))
    assert load_config(str(tmp_path)).data.max_corrupt_fraction == 0.25


def test_initialization_is_saved_and_can_change_before_the_first_checkpoint(tmp_path):
    assert load_initialization(str(tmp_path)) == {}
    config = tiny.get_config()
    for step in (1, 2):
        initialization = {"weights": f"run/best/ckpt-{step}", "overrides": {"operator": {"num_experts": 2}}}
        save_or_verify_config(config, str(tmp_path), initialization)
        assert load_initialization(str(tmp_path)) == initialization


@pytest.mark.parametrize("text", ['{"config"', '{"config": 3}', "[]", "{}", "\udcff"])
def test_invalid_config_file(tmp_path, text):
    (tmp_path / "config.json").write_text(text, errors="surrogateescape")
    with pytest.raises(ConfigError, match=r"config\.json") as caught:
        load_config(str(tmp_path))
    assert "\n" not in str(caught.value)


def test_missing_config_file(tmp_path):
    with pytest.raises(ConfigError, match=r"config\.json does not exist"):
        load_config(str(tmp_path))


def test_saved_config_with_a_missing_field_is_refused(tmp_path):
    save_or_verify_config(tiny.get_config(), str(tmp_path))
    path = tmp_path / "config.json"
    saved = json.loads(path.read_text())
    del saved["config"]["init"]
    path.write_text(json.dumps(saved))
    with pytest.raises(ConfigError, match="init"):
        load_config(str(tmp_path))


@pytest.mark.parametrize(
    "names",
    [
        ["cat", "dog"],
        ["only"],
        [" leading and trailing ", "", "two words", "fish"],
        ["last", ""],
        ["grün", "猫", "line\u2028separator", "form\ffeed", "\x85"],
        [str(label) for label in range(1000)],
    ],
)
def test_class_names_round_trip(tmp_path, names):
    workdir = str(tmp_path / "new" / "run")
    save_or_verify_classes(workdir, names)
    assert load_classes(workdir) == names
    verify_classes(workdir, tuple(names))


def test_classes_file_has_one_name_per_line(tmp_path):
    save_or_verify_classes(str(tmp_path), ["cat", "dog", "éclair"])
    assert [path.name for path in tmp_path.iterdir()] == ["classes.txt"]
    assert (tmp_path / "classes.txt").read_bytes() == "cat\ndog\néclair\n".encode()
    (tmp_path / "classes.txt").write_text("cat\ndog")  # an editor may remove the last line break
    assert load_classes(str(tmp_path)) == ["cat", "dog"]


def test_any_classes_are_accepted_without_a_classes_file(tmp_path):
    assert load_classes(str(tmp_path)) is None
    verify_classes(str(tmp_path), ["anything"])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["cat", "eel", "fox"], "class 1 of .* is 'dog' .* 'eel'"),
        (["cat", "dog", "Eel"], "class 2 of .* is 'eel' .* 'Eel'"),
        (["dog", "cat", "eel"], "class 0 of .* is 'cat' .* 'dog'"),
        (["cat", "dog"], "3 classes .* 2"),
        (["ant", "cat", "dog", "eel"], "3 classes .* 4"),
    ],
)
def test_changed_classes_are_refused(tmp_path, names, message):
    save_or_verify_classes(str(tmp_path), ["cat", "dog", "eel"])
    for function in (verify_classes, save_or_verify_classes):
        with pytest.raises(ConfigError, match=message) as caught:
            function(str(tmp_path), names)
        assert str(tmp_path / "classes.txt") in str(caught.value)
        assert "\n" not in str(caught.value)
    assert load_classes(str(tmp_path)) == ["cat", "dog", "eel"]


@pytest.mark.parametrize("name", ["two\nlines", "carriage\rreturn", "\n"])
def test_line_break_in_a_class_name_is_refused(tmp_path, name):
    with pytest.raises(ConfigError) as caught:
        save_or_verify_classes(str(tmp_path), ["cat", name])
    assert repr(name) in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_classes_file_must_be_utf8(tmp_path):
    (tmp_path / "classes.txt").write_bytes(b"caf\xe9\n")
    with pytest.raises(ConfigError, match=r"classes\.txt"):
        verify_classes(str(tmp_path), ["cat"])


def test_unwritable_workdir(tmp_path):
    (tmp_path / "file").write_text("")
    for call in (
        lambda workdir: save_or_verify_classes(workdir, ["cat"]),
        lambda workdir: save_or_verify_config(tiny.get_config(), workdir),
        lambda workdir: lock_workdir(workdir).__enter__(),
    ):
        with pytest.raises(ConfigError, match=r"--workdir=.*file"):
            call(str(tmp_path / "file"))


def test_lock_is_exclusive_per_purpose(tmp_path):
    with lock_workdir(str(tmp_path)) as file:
        assert file is not None
        with lock_workdir(str(tmp_path), "study"):
            pass
        with pytest.raises(ConfigError, match="another training"), lock_workdir(str(tmp_path)):
            pass
    with lock_workdir(str(tmp_path)):
        pass


# Runs on images in class folders


def _config(folder):
    config = tiny.get_config()
    config.data.source, config.data.eval_split = f"folder:{folder}", "train"
    config.batch_size, config.epochs, config.schedule.warmup_epochs = 4, 1.0, 0.0
    return config


def _make_class(folder, name):
    (folder / "train" / name).mkdir(parents=True)
    for number in range(2):
        image = tf.fill([16, 16, 3], tf.constant(40 * number + len(name), tf.uint8))
        (folder / "train" / name / f"{number}.png").write_bytes(tf.io.encode_png(image).numpy())


def test_line_break_is_found_before_anything_is_written(devices, tmp_path):
    for name in ("cat", "d\nog"):
        _make_class(tmp_path / "images", name)
    with pytest.raises(ConfigError, match="class 1"):
        train(_config(tmp_path / "images"), str(tmp_path / "run"), devices)
    assert not (tmp_path / "run").exists()


def test_class_renamed_after_training(devices, tmp_path):
    images, workdir = tmp_path / "images", str(tmp_path / "run")
    for name in ("cat", "dog"):
        _make_class(images, name)
    train(_config(images), workdir, devices, evaluate=False)
    assert load_classes(workdir) == ["cat", "dog"]
    CheckpointEvaluator(load_config(workdir), workdir, devices)  # accepted

    (images / "train" / "cat").rename(images / "train" / "fox")  # dogs would be counted as cats
    message = "class 0 of .* is 'cat' .* 'dog'"
    with pytest.raises(ConfigError, match=message):
        CheckpointEvaluator(load_config(workdir), workdir, devices)
    with pytest.raises(ConfigError, match=message):
        train(_config(images), workdir, devices, evaluate=False)
    assert load_classes(workdir) == ["cat", "dog"]
    for program in ("eval.py", "scripts/export.py"):
        result = run(program, f"--workdir={workdir}")
        assert result.returncode == 2
        assert "'cat'" in result.stderr
        assert "Traceback" not in result.stderr
    assert not (tmp_path / "run" / "saved_model").exists()


def test_class_added_after_training(devices, tmp_path):
    workdir = str(tmp_path / "run")
    save_or_verify_config(_config(tmp_path / "images").lock(), workdir)
    save_or_verify_classes(workdir, ["cat", "dog"])
    for name in ("ant", "cat", "dog"):
        _make_class(tmp_path / "images", name)
    with pytest.raises(ConfigError, match=r"2 classes .* 3"):
        CheckpointEvaluator(load_config(workdir), workdir, devices)
