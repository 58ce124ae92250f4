"""The study of converted networks: a short run, its records, and its continuation."""

import json

from helpers import programs

TINY = ("--source=digits", "--examples=64", "--epochs=1", "--further_epochs=1", "--seeds=1")


def test_study_continues_from_its_records(tmp_path):
    records, page = tmp_path / "records.jsonl", tmp_path / "page.md"
    page.write_text("<!-- conversion -->\n<!-- /conversion -->\n")
    arguments = ("benchmarks/conversion.py", *TINY, f"--records={records}", f"--markers={page}")
    first = programs.run(*arguments)
    assert first.returncode == 0, first.stderr
    results = [json.loads(line) for line in records.read_text().splitlines()]
    assert len(results) == 4
    assert all(0 <= result["accuracy"] <= 1 for result in results)
    sizes = {result["name"]: result["parameters"] for result in results}
    assert sizes["static, seed 0"] < sizes["CondConv, noise 0, seed 0"] == sizes["CondConv, noise 0.1, seed 0"]
    table = page.read_text()
    assert table.count("| CondConv, noise") == 2
    # The second run trains nothing and writes the same rows.
    second = programs.run(*arguments)
    assert second.returncode == 0, second.stderr
    assert [json.loads(line) for line in records.read_text().splitlines()] == results
    assert [row for row in page.read_text().splitlines() if row.startswith("| ")] == [
        row for row in table.splitlines() if row.startswith("| ")
    ]
    other = programs.run(*arguments, "--epochs=2")
    assert "epochs=1" in programs.usage_error(other)


def test_usage_errors(tmp_path):
    for flag, message in ((f"--markers={tmp_path}/none.md", "none.md"), ("--source=none", "none")):
        assert message in programs.usage_error(programs.run("benchmarks/conversion.py", *TINY, flag))
