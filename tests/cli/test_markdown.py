"""Tables between markers: nothing else of the file changes, and nothing is written where it does not belong."""

import pytest

from convzoo.cli.markdown import check_markers, quantity, write_between
from convzoo.errors import ConfigError


def test_the_table_goes_between_its_markers_and_nowhere_else(tmp_path):
    path = tmp_path / "a.md"
    path.write_text("one\n<!-- x -->\nold\n<!-- /x -->\ntwo\n<!-- xy -->\n<!-- /xy -->\n")
    for _ in range(2):
        check_markers(str(path), "x")
        write_between(str(path), "x", "new\n")
        assert path.read_text() == "one\n<!-- x -->\nnew\n<!-- /x -->\ntwo\n<!-- xy -->\n<!-- /xy -->\n"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.md"]


@pytest.mark.parametrize(
    "text",
    ["", "<!-- x -->", "<!-- /x --> <!-- x -->", "<!-- x --><!-- x --><!-- /x -->"],
    ids=["empty", "no_end", "turned_round", "twice"],
)
def test_missing_markers(text, tmp_path):
    path = tmp_path / "a.md"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"<!-- x -->.*<!-- /x -->"):
        write_between(str(path), "x", "new")
    assert path.read_text() == text


def test_no_such_file(tmp_path):
    with pytest.raises(ConfigError, match=r"cannot read .*none.md.*give a Markdown file"):
        check_markers(str(tmp_path / "none.md"), "x")


def test_quantities():
    assert [quantity(n) for n in (41_030_272, 5_288_548, 299e6, 4_089_184_256)] == [
        "41.03 M",
        "5.289 M",
        "299.0 M",
        "4.089 G",
    ]
