"""The blocks of README.md: its Python runs, and its programs run one after the other."""

import pathlib
import re
import shlex
import textwrap

from helpers.programs import run

README = (pathlib.Path(__file__).parent.parent / "README.md").read_text()
# The experiment of the README takes minutes.
_SHORTER = ["--config.epochs=1", "--config.schedule.warmup_epochs=0"]


def test_python(tmp_path):
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert blocks
    for block in blocks:
        program = tmp_path / "block.py"
        program.write_text(block)
        result = run(program)
        assert result.returncode == 0, result.stderr
        for shown in re.findall(r"print\(.*\)  # (.*)", block):
            assert shown in result.stdout


def test_train_evaluate_and_export(tmp_path):
    section = README.partition("## Train, evaluate, export")[2].partition("\n## ")[0]
    commands = [line.strip() for line in section.splitlines() if line.startswith("    python ")]
    assert [shlex.split(command)[1] for command in commands] == [
        "train.py",
        "eval.py",
        "scripts/export.py",
        "scripts/save_image.py",
        "scripts/classify.py",
    ]
    for command in commands:
        _, *arguments = shlex.split(command.replace("runs/quickstart", str(tmp_path)))
        result = run(*arguments, *(_SHORTER if arguments[0] == "train.py" else []))
        assert result.returncode == 0, textwrap.indent(result.stderr, command)
    assert result.stdout.startswith(f"{tmp_path}/image.png: ")
