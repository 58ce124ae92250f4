"""Docstring examples print their expected output, and all public layers, model and data functions have one."""

import doctest
import importlib
import inspect
import pathlib
import pkgutil

import keras
import pytest

from convzoo import data
from convzoo.layers import get_target, set_target
from convzoo.models import registry

ROOT = pathlib.Path(__file__).parent.parent
PACKAGES = ("layers", "models", "data", "porting", "tasks", "training", "serving", "tpu", "cli")
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
# Public names without an example, and why.
NO_EXAMPLE = {
    "models.DetectorInfo": "a record that the example of detector_info returns",
    "models.LayerCount": "a record that the example of count returns",
    "models.ModelCount": "a record that the example of count returns",
    "models.Operator": "abstract; its subclasses have examples",
    "models.ModelInfo": "a record that the examples of info and register_model show",
    "models.Preprocessing": "a record in ModelInfo",
    "models.Published": "a record in ModelInfo",
    "models.Reported": "a record in ModelInfo",
}


def _modules():
    folders = [str(ROOT / package) for package in PACKAGES]
    names = [
        f"convzoo.{package}{module}"
        for package, folder in zip(PACKAGES, folders, strict=True)
        for module in ("", *(f".{info.name}" for info in pkgutil.iter_modules([folder])))
    ]
    return ["convzoo", "convzoo.errors", *names]


def _has_examples(name):
    path = ROOT / "/".join(name.split(".")[1:])
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return ">>> " in file.read_text()


@pytest.fixture(scope="module")
def _prepared_digits():
    """Prepares the dataset that examples open: the first to open it would print the progress of its preparation."""
    data.open_source("tfds:digits")


@pytest.mark.graphs
@pytest.mark.usefixtures("_prepared_digits")
@pytest.mark.parametrize("name", [name for name in _modules() if _has_examples(name)])
def test_examples(name, tmp_path, monkeypatch, capsys):
    # Examples write into the working directory, and may register networks.
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(registry, "_ENTRIES", dict(registry._ENTRIES))
    policy, target = keras.config.dtype_policy(), get_target()
    module = importlib.import_module(name)
    examples = [test for test in doctest.DocTestFinder(exclude_empty=True).find(module) if test.examples]
    assert examples, f"{name} contains '>>>' outside docstrings"
    runner = doctest.DocTestRunner(optionflags=FLAGS)
    try:
        for example in examples:
            runner.run(example)
    finally:
        keras.config.set_dtype_policy(policy)
        set_target(target)
    assert runner.failures == 0, capsys.readouterr().out


def _public():
    for package in ("layers", "models", "data"):
        module = importlib.import_module(f"convzoo.{package}")
        for name in module.__all__:
            value = getattr(module, name)
            if inspect.isclass(value) or inspect.isfunction(value):
                yield pytest.param(value, id=f"{package}.{name}")


@pytest.mark.parametrize("value", list(_public()))
def test_public_names_have_an_example(value, request):
    has_example = any(test.examples for test in doctest.DocTestFinder().find(value, value.__name__))
    # A listed exception that has an example should leave the list.
    assert has_example != (request.node.callspec.id in NO_EXAMPLE)
