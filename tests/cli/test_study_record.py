"""What a study writes from figures that are given: the table, and its place in a Markdown file."""

import json

import pytest

from convzoo.cli.study import FAILED, FINISHED, INTERRUPTED, RunKey, Study, training_rate
from convzoo.errors import ConfigError


def _row(name, madds):
    return {"name": name, "folder": name, "flags": f"--config={name}.py", "config": {}, "params": 12345, "madds": madds}


@pytest.fixture
def study(tmp_path):
    """Two rows: one with three finished seeds, one with a finished, a failed and an interrupted one."""
    study = Study(str(tmp_path))
    study.about = {"checkpoint": "best", "split": "test", "command": "python scripts/study.py", "machine": {}}
    study.rows = [_row("a", 385_814_176), _row("ab", 1_826_500_000)]
    for seed, top1, rate in ((2, 0.93, 2000.4), (0, 0.90, None), (1, 0.96, 1000.0)):
        study.run(study.rows[0], RunKey(seed)).update(
            status=FINISHED, top1=top1, images_per_second=rate, seconds=[30.0, 60.0], versions={"tensorflow": "2.21.0"}
        )
    study.run(study.rows[1], RunKey(0)).update(
        status=FINISHED, top1=0.5, seconds=[6.0], versions={"tensorflow": "2.21.0"}
    )
    study.run(study.rows[1], RunKey(1)).update(status=FAILED, output=["step 1", "train.py: lost"], seconds=[9.0])
    study.run(study.rows[1], RunKey(2)).update(status=INTERRUPTED, seconds=[9.0])
    return study


def _cells(line):
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_the_table_has_mean_and_sample_deviation_of_the_finished_runs(study):
    lines = study.table().splitlines()
    assert _cells(lines[0])[:4] == ["row", "parameters", "multiply-adds", "top-1 %"]
    # Of 90, 93, 96: the mean is 93, the squares of the deviations sum to 18, over n - 1 = 2 that is 3 squared.
    assert _cells(lines[2]) == [
        "a", "12,345", "385.8 M", "93.00 ± 3.00", "90.00 to 96.00", "3", "1,500", "1.5", "`--config=a.py`"
    ]  # fmt: skip
    assert _cells(lines[3]) == [
        "ab",
        "12,345",
        "1.827 G",
        "50.00",
        "50.00 to 50.00",
        "1",
        "",
        "0.1",
        "`--config=ab.py`",
    ]
    assert "Failed: ab, seed 1: train.py: lost" in lines
    assert "interrupted" not in study.table()


def test_a_study_is_read_as_it_was_written(study, tmp_path):
    study.write()
    again = Study(str(tmp_path))
    assert (again.about, again.rows, again.runs) == (study.about, study.rows, study.runs)
    assert (tmp_path / "table.md").read_text() == study.table()
    (tmp_path / "study.json").write_text('{"rows": [')
    with pytest.raises(ConfigError, match=r"study\.json"):
        Study(str(tmp_path))


def test_the_rate_of_a_training_is_the_median_of_its_chunks_but_the_first(tmp_path):
    lines = [
        {"train/images_per_second": 1.0},
        {"train/images_per_second": 90.0},
        {"eval/top1": 0.5},
        {"train/images_per_second": 100.0},
        {"train/images_per_second": 300.0},
    ]
    text = "".join(json.dumps({"step": step, **line}) + "\n" for step, line in enumerate(lines))
    (tmp_path / "metrics.jsonl").write_text(text)
    assert training_rate(str(tmp_path)) == 100.0
    (tmp_path / "metrics.jsonl").write_text(text.splitlines()[0] + "\n")
    assert training_rate(str(tmp_path)) is None
