"""The classes of a run, kept beside its checkpoints: they stay what they were, whatever becomes of the data."""

import pytest
import tensorflow as tf
from helpers import tiny
from helpers.programs import complaint, run

from convzoo.training import classes
from convzoo.training.assessment import Assessor
from convzoo.training.config import ConfigError, load, save
from convzoo.training.devices import connect
from convzoo.training.loop import train


@pytest.fixture(scope="module")
def devices():
    return connect(devices="cpu")


def _config(folder):
    """One step on the pictures of `folder`."""
    config = tiny.get_config()
    config.data.source, config.data.eval_split = f"folder:{folder}", "train"
    config.batch_size, config.epochs, config.schedule.warmup_epochs = 4, 1.0, 0.0
    return config


def _make_class(folder, name):
    (folder / "train" / name).mkdir(parents=True)
    for number in range(2):
        picture = tf.fill([16, 16, 3], tf.constant(40 * number + len(name), tf.uint8))
        (folder / "train" / name / f"{number}.png").write_bytes(tf.io.encode_png(picture).numpy())


def _make_run(workdir, folder):
    """A run as far as it is there before its first step: enough to be refused."""
    save(_config(folder).lock(), str(workdir))
    return str(workdir)


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
def test_a_list_comes_back_as_it_was(tmp_path, names):
    workdir = str(tmp_path / "new" / "run")
    classes.write(workdir, names)
    assert classes.read(workdir) == names
    classes.check(workdir, tuple(names))


def test_the_list_is_for_people_too(tmp_path):
    classes.write(str(tmp_path), ["cat", "dog", "éclair"])
    assert [path.name for path in tmp_path.iterdir()] == ["classes.txt"]
    assert (tmp_path / "classes.txt").read_bytes() == "cat\ndog\néclair\n".encode()
    (tmp_path / "classes.txt").write_text("cat\ndog")  # as an editor may leave it
    assert classes.read(str(tmp_path)) == ["cat", "dog"]


def test_a_run_of_an_earlier_version_has_no_list(tmp_path):
    assert classes.read(str(tmp_path)) is None
    classes.check(str(tmp_path), ["anything"])
    assert list(tmp_path.iterdir()) == []


def test_other_classes_are_named(tmp_path):
    workdir = str(tmp_path)
    classes.write(workdir, ["cat", "dog", "eel"])
    for names, message in (
        (["cat", "eel", "fox"], f"class 1 of the run in {workdir!r} is 'dog' and that of the data 'eel' now"),
        (["cat", "dog", "Eel"], f"class 2 of the run in {workdir!r} is 'eel' and that of the data 'Eel' now"),
        (["dog", "cat", "eel"], f"class 0 of the run in {workdir!r} is 'cat' and that of the data 'dog' now"),
        (["cat", "dog"], f"the run in {workdir!r} was trained on 3 classes and the data has 2 now"),
        (["ant", "cat", "dog", "eel"], f"the run in {workdir!r} was trained on 3 classes and the data has 4 now"),
    ):
        with pytest.raises(ConfigError) as caught:
            classes.check(workdir, names)
        assert str(caught.value).startswith(f"{message}; restore the data's classes ({tmp_path / 'classes.txt'}")
        assert "\n" not in str(caught.value)


def test_a_list_is_kept(tmp_path):
    workdir = str(tmp_path)
    classes.keep(workdir, ["cat", "dog"])
    assert classes.read(workdir) == ["cat", "dog"]
    classes.keep(workdir, ["cat", "dog"])
    with pytest.raises(ConfigError, match="class 1 of"):
        classes.keep(workdir, ["cat", "eel"])
    assert classes.read(workdir) == ["cat", "dog"]


@pytest.mark.parametrize("name", ["two\nlines", "carriage\rreturn", "\n"])
def test_a_line_break_in_a_name_is_refused(tmp_path, name):
    with pytest.raises(ConfigError) as caught:
        classes.write(str(tmp_path), ["cat", name])
    assert str(caught.value) == f"the name of class 1, {name!r}, has a line break; rename it in the data"
    assert list(tmp_path.iterdir()) == []


def test_a_workdir_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"cannot write to --workdir=.*file \(.*\); choose another"):
        classes.write(str(tmp_path / "file"), ["cat"])


def test_a_line_break_is_found_before_anything_is_written(devices, tmp_path):
    for name in ("cat", "d\nog"):
        _make_class(tmp_path / "pictures", name)
    with pytest.raises(ConfigError, match=r"the name of class 1, .* has a line break"):
        train(_config(tmp_path / "pictures"), str(tmp_path / "run"), devices)
    assert not (tmp_path / "run").exists()


def test_a_class_that_is_renamed_after_the_training(devices, tmp_path):
    pictures, workdir = tmp_path / "pictures", str(tmp_path / "run")
    for name in ("cat", "dog"):
        _make_class(pictures, name)
    train(_config(pictures), workdir, devices, evaluate=False)
    assert classes.read(workdir) == ["cat", "dog"]
    Assessor(load(workdir), workdir, devices)  # not refused

    (pictures / "train" / "cat").rename(pictures / "train" / "fox")  # the dogs would be counted as cats
    message = f"class 0 of the run in {workdir!r} is 'cat' and that of the data 'dog' now"
    with pytest.raises(ConfigError) as caught:
        Assessor(load(workdir), workdir, devices)
    assert str(caught.value).startswith(message)
    with pytest.raises(ConfigError) as caught:
        train(_config(pictures), workdir, devices, evaluate=False)
    assert str(caught.value).startswith(message)
    assert classes.read(workdir) == ["cat", "dog"]
    for program in ("eval.py", "scripts/export_saved_model.py"):
        assert message in complaint(run(program, f"--workdir={workdir}"))
    assert not (tmp_path / "run" / "saved_model").exists()


def test_a_class_that_is_added_after_the_training(devices, tmp_path):
    workdir = _make_run(tmp_path / "run", tmp_path / "pictures")
    classes.write(workdir, ["cat", "dog"])
    for name in ("ant", "cat", "dog"):
        _make_class(tmp_path / "pictures", name)
    with pytest.raises(ConfigError, match="was trained on 2 classes and the data has 3 now"):
        Assessor(load(workdir), workdir, devices)


def test_a_list_that_is_no_text(tmp_path):
    classes.write(str(tmp_path), ["cat"])
    (tmp_path / "classes.txt").write_bytes(b"caf\xe9\n")
    with pytest.raises(ConfigError, match=r"classes.txt' is no UTF-8 text"):
        classes.check(str(tmp_path), ["cat"])
