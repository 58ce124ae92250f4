"""The table of networks: counted and published numbers."""

import pytest
from helpers import programs

from convzoo import models

TOLERANCE = 0.015
# Of the figures whose difference a note explains.
TOLERANCE_NOTED = 0.03
# Published for other settings than those of the released code: what comes to the figure, as the record's note says.
PUBLISHED_SETTINGS = {"shufflenet_v2_drconv_x0_5": {"bank_size": 4}}


@pytest.mark.parametrize("name", [name for name in models.list_models() if models.info(name).published])
def test_counts_agree_with_published_numbers(name):
    info = models.info(name)
    published = info.published
    if published.params and published.params % 1000:
        assert info.params == published.params
    elif published.params:
        # Printed to two digits: they are ours, rounded, or nearly so.
        rounded = float(f"{info.params:.2g}") == published.params
        assert rounded or info.params == pytest.approx(published.params, rel=0.025)
    if published.madds:
        tolerance = TOLERANCE_NOTED if published.note else TOLERANCE
        madds = info.madds
        if name in PUBLISHED_SETTINGS:
            madds, tolerance = (
                models.count(models.create_model(name, operator=PUBLISHED_SETTINGS[name])).madds,
                TOLERANCE,
            )
        assert madds == pytest.approx(published.madds, rel=tolerance)
    assert published.source


def test_program_prints_one_row_per_network():
    run = programs.run("benchmarks/model_table.py", "--models=mobilenet_v2*")
    assert run.returncode == 0, run.stderr
    rows = {line.split()[1]: line for line in run.stdout.splitlines() if line.startswith("| mobilenet")}
    assert list(rows) == models.list_models("mobilenet_v2*")
    row = rows["mobilenet_v2_x1_0"]
    assert "3,504,872" in row
    assert "300.8 M" in row
    assert "301 M [1]" in row
    assert "`configs/condconv_imagenet.py:mobilenet_v2_x1_0`" in row
    assert "[1] CondConv (arXiv 1904.04971), table 1." in run.stdout
    assert "- mobilenet_v2_condconv_x1_0: " in run.stdout


def test_docs_list_every_network():
    text = (programs.ROOT / "docs" / "models.md").read_text()
    table = text[text.index("<!-- model_table -->") : text.index("<!-- /model_table -->")]
    listed = [line.split()[1] for line in table.splitlines() if line.startswith("| ")]
    assert set(models.list_models()) <= set(listed), "run benchmarks/model_table.py --markers=docs/models.md"


def test_usage_errors(tmp_path):
    path = tmp_path / "a.md"
    path.write_text("no markers")
    for flag, message in (
        ("--models=none*", "--models=none*"),
        (f"--markers={path}", "<!-- model_table -->"),
        (f"--markers={tmp_path}/none.md", "none.md"),
    ):
        assert message in programs.usage_error(programs.run("benchmarks/model_table.py", flag))
