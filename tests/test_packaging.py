"""The sdist and its wheel have the version of the git tag, and the installed command runs without the repository."""

import os
import pathlib
import shutil
import subprocess
import sys
import zipfile

import pytest
from PIL import Image

ROOT = pathlib.Path(__file__).parent.parent
_TAG = "v1.2.3"
# Runs the installed command once for each line of standard input, in processes that share the import of TensorFlow.
_COMMANDS = """
import os, runpy, sys
import convzoo, convzoo.training.evaluation, convzoo.training.loop
print(convzoo.__version__, convzoo.__file__, flush=True)
for line in sys.stdin.read().splitlines():
    if (process := os.fork()) == 0:
        sys.argv = [sys.argv[1], *line.split()]
        runpy.run_path(sys.argv[0], run_name="__main__")
        sys.exit()
    if status := os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]):
        sys.exit(f"{line} exits with status {status}")
"""


def _check(*command, **options):
    result = subprocess.run([str(part) for part in command], capture_output=True, text=True, **options)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def distributions(tmp_path_factory):
    """The folder of an sdist, and of a wheel built from it, of a tagged commit of the working tree."""
    source = tmp_path_factory.mktemp("source")
    files = [path for path in ROOT.iterdir() if path.suffix in (".toml", ".py", ".md", ".typed")]
    folders = [path for path in ROOT.iterdir() if list(path.glob("*.py")) and path.name != "tests"]
    for path in [*files, ROOT / "LICENSE"]:
        shutil.copy(path, source)
    for path in folders:
        shutil.copytree(path, source / path.name, ignore=shutil.ignore_patterns("__pycache__"))
    git = ["git", "-C", source, "-c", "user.name=convzoo", "-c", "user.email=convzoo@example.com"]
    for command in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "--message=x"], ["tag", _TAG]):
        _check(*git, *command)
    # The versions of the build requirements differ from those of an isolated build.
    _check(sys.executable, "-m", "build", "--no-isolation", "--skip-dependency-check", source)
    return source / "dist"


def test_contents(distributions):
    wheel = distributions / f"convzoo-{_TAG[1:]}-py3-none-any.whl"
    names = set(zipfile.ZipFile(wheel).namelist())
    modules = [path for path in ROOT.rglob("*.py") if path.relative_to(ROOT).parts[0] in _packages()]
    assert len(modules) > 200
    expected = {f"convzoo/{path.relative_to(ROOT)}" for path in modules}
    expected |= {f"convzoo/{name}" for name in ("__init__.py", "__main__.py", "train.py", "eval.py", "py.typed")}
    assert expected <= names
    assert not {name for name in names if name.startswith("convzoo/tests") or name == "convzoo/setup.py"}
    assert (distributions / f"convzoo-{_TAG[1:]}.tar.gz").exists()


def _packages():
    return {path.parent.name for path in ROOT.glob("*/__init__.py")}


def test_the_installed_command(distributions, tmp_path):
    site, folder = tmp_path / "site", tmp_path / "empty"
    folder.mkdir()
    Image.new("RGB", (32, 32)).save(folder / "image.png")
    (wheel,) = distributions.glob("*.whl")
    _check(sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", f"--target={site}", wheel)
    lines = [
        "train --config=quickstart --workdir=run --config.epochs=0.2 --config.schedule.warmup_epochs=0.0 "
        "--config.data.train_split=train[:320] --config.model.name=mobilenet_v1_x0_25 --config.model.operator={} "
        "--config.model.overrides={'blocks':((8,2),(8,2))}",  # smaller than the network of the quickstart
        "eval --workdir=run --split=test[:64]",
        "export --workdir=run",
        "classify --model=run/saved_model image.png",
    ]
    output = _check(
        *(sys.executable, "-c", _COMMANDS, site / "bin" / "convzoo"),
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(site)},
        input="\n".join(lines),
    )
    assert output.startswith(f"{_TAG[1:]} {site}/convzoo/__init__.py\n")
    assert output.splitlines()[-1].startswith("image.png: ")
    assert sorted(path.name for path in folder.iterdir()) == ["image.png", "run"]
