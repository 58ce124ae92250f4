"""The rooms of the house import one way only, and layers and models know no framework but Keras."""

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
    "training": {"layers", "models", "data", "training"},
    "serving": {"models", "data", "serving"},
    "tpu": {"layers", "models", "data", "training", "tpu"},
}
FRAMEWORKS = {"tensorflow", "tensorflow_datasets", "jax", "torch"}
# Rooms that know no framework but Keras, with the files that read another's own format or need an operation of its own.
NO_FRAMEWORK = {
    "layers": {"barrier.py": {"jax", "tensorflow"}, "own_gradient.py": {"tensorflow"}},
    "models": {},
    "configs": {},
    "porting": {"tf1.py": {"tensorflow"}, "readers.py": {"torch"}},
}


def _imports(path):
    """Top-level packages that a file imports, and which rooms of convzoo."""
    packages, rooms = set(), set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level:
            rooms.add(path.parent.name)
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            parts = name.split(".")
            packages.add(parts[0])
            if parts[0] == "convzoo" and len(parts) > 1 and (ROOT / parts[1]).is_dir():
                rooms.add(parts[1])
    return packages, rooms


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_arrows_point_one_way(room):
    files = sorted((ROOT / room).rglob("*.py"))
    assert files
    for path in files:
        packages, rooms = _imports(path)
        assert rooms <= MAY_IMPORT[room], path
        if room in NO_FRAMEWORK:
            assert packages & FRAMEWORKS <= NO_FRAMEWORK[room].get(path.name, set()), path
        assert "keras.src" not in path.read_text(), path


def test_every_room_is_installed():
    packages = (ROOT / "setup.py").read_text()
    for room in MAY_IMPORT:
        assert f'"convzoo.{room}"' in packages
