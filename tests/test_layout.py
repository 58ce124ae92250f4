"""Packages import in one direction only, and layers and models import no framework except Keras."""

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parent.parent
MAY_IMPORT = {
    "configs": {"configs"},
    "layers": {"layers"},
    "models": {"layers", "models"},
    "porting": {"layers", "models", "porting"},
    "data": {"data"},
    "tasks": {"models", "data", "tasks"},
    "training": {"configs", "layers", "models", "data", "tasks", "training"},
    "serving": {"layers", "models", "data", "tasks", "serving"},
    "tpu": {"layers", "models", "data", "tasks", "training", "tpu"},
    "cli": {"configs", "layers", "models", "data", "tasks", "training", "cli"},
}
FRAMEWORKS = {"tensorflow", "tensorflow_datasets", "jax", "torch"}
# Packages without a framework except Keras, and the exceptions: files that read a framework's format or need its ops.
NO_FRAMEWORK = {
    "layers": {"barrier.py": {"jax", "tensorflow"}, "custom_gradient.py": {"tensorflow"}},
    "models": {},
    "configs": {},
    "porting": {"tf1.py": {"tensorflow"}, "readers.py": {"torch"}},
}


def _imports(path):
    """Returns the top-level packages that a file imports, and the packages of convzoo among them."""
    packages, own = set(), set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level:
            own.add(path.parent.name)
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            parts = name.split(".")
            packages.add(parts[0])
            if parts[0] == "convzoo" and len(parts) > 1 and (ROOT / parts[1]).is_dir():
                own.add(parts[1])
    return packages, own


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_imports_point_one_way(package):
    files = sorted((ROOT / package).rglob("*.py"))
    assert files
    for path in files:
        packages, own = _imports(path)
        assert own <= MAY_IMPORT[package], path
        if package in NO_FRAMEWORK:
            assert packages & FRAMEWORKS <= NO_FRAMEWORK[package].get(path.name, set()), path
        assert "keras.src" not in path.read_text(), path
