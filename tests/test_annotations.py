"""The public functions, layers and operators have annotations, which type checkers read because of py.typed."""

import importlib
import inspect

import pytest


def _public():
    for package in ("layers", "models"):
        module = importlib.import_module(f"convzoo.{package}")
        for name in module.__all__:
            value = getattr(module, name)
            yield pytest.param(value, id=f"{package}.{name}")


def _functions(value):
    """Yields a function, or the public methods and properties that a class defines, each without `self`."""
    if inspect.isfunction(value):
        yield inspect.signature(value)
        return
    for name, member in vars(value).items():
        function = member.fget if isinstance(member, property) else member
        if inspect.isfunction(function) and function.__module__ == value.__module__ and not name.startswith("_"):
            signature = inspect.signature(function)
            yield signature.replace(parameters=list(signature.parameters.values())[1:])
    if "__init__" in vars(value):
        yield inspect.signature(value)


@pytest.mark.parametrize("value", list(_public()))
def test_public_names_are_annotated(value):
    for signature in _functions(value):
        assert signature.return_annotation is not signature.empty, signature
        for parameter in signature.parameters.values():
            assert parameter.annotation is not parameter.empty, f"{parameter} of {signature}"
