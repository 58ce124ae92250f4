"""Tuned studies: chosen settings, the record and its continuation, the table. Trainings are replaced by numbers."""

import json

import pytest
from helpers.programs import TINY, run, usage_error

# A study of two rows whose trainings end at once: the accuracy is a function of row, learning rate and seed.
_PROGRAM = f'''
import sys
from convzoo.benchmarks.studies.tuned_study import Row, TunedStudy, run

def start(runner, keys):
    for row in runner._study.rows:
        for key in keys:
            record = runner._study.run(row, key)
            if record["status"] == "finished":
                continue
            print("trained", row["name"], key.seed)
            rate = row["config"]["optimizer"]["learning_rate"]
            top1 = 0.9 - abs(rate - (0.1 if row["name"].startswith("low") else 0.2)) + 0.001 * key.seed
            record.update(status="finished", top1=top1, images_per_second=1.0, versions={{"tensorflow": "2"}})
    runner._on_run_end()

if __name__ == "__main__":
    from convzoo.benchmarks.studies import make_study
    make_study.StudyRunner.run = start
    run(
        TunedStudy(
            "tiny",
            rows=[Row("low", "{TINY}:regions"), Row("high", "{TINY}:regions", ("config.epochs=2.0",), baseline="low")],
            grid={{f"rate {{rate}}": (f"config.optimizer.learning_rate={{rate}}",) for rate in (0.1, 0.2)}},
            tuning_fields=("config.epochs=1.0",),
        )
    )
'''


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    path = tmp_path_factory.mktemp("study") / "tiny.py"
    path.write_text(_PROGRAM)
    return path


def _run(program, folder, *flags):
    return run(program, f"--workdir={folder}/work", f"--record={folder}/record.json", "--seeds=3", *flags)


def test_each_row_trains_with_its_best_setting(program, tmp_path):
    page = tmp_path / "page.md"
    page.write_text("<!-- study:tiny -->\n<!-- /study:tiny -->\n")
    result = _run(program, tmp_path, "--rows=low")
    assert result.returncode == 0, result.stderr
    result = _run(program, tmp_path, f"--markers={page}", f"--plot={tmp_path}/plot.png")
    assert result.returncode == 0, result.stderr
    trained = [line for line in result.stdout.splitlines() if line.startswith("trained")]
    assert trained == ["trained high, rate 0.1 0", "trained high, rate 0.2 0", *(f"trained high {s}" for s in range(3))]
    record = json.loads((tmp_path / "record.json").read_text())
    assert {name: value["chosen"] for name, value in record["settings"].items()} == {
        "low": "rate 0.1",
        "high": "rate 0.2",
    }
    assert [row["config"]["optimizer"]["learning_rate"] for row in record["final"]["rows"]] == [0.1, 0.2]
    assert [row["config"]["epochs"] for row in record["final"]["rows"]] == [3.0, 2.0]
    assert (record["tuning"]["about"]["split"], record["final"]["about"]["split"]) == ("train[:50]", "test")
    assert all(min(rates["train"], rates["inference"]) > 0 for rates in record["rates"].values())
    low, high = [line.split("|") for line in page.read_text().splitlines() if "rate 0." in line]
    assert (low[1].strip(), low[4].strip(), low[6].strip()) == ("low", "90.10", "")
    assert (high[1].strip(), high[6].strip()) == ("high", "+0.00 [-0.23, +0.23]")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
    assert "with another config" in usage_error(_run(program, tmp_path, "--override=config.batch_size=8"))
    assert json.loads((tmp_path / "record.json").read_text()) == record
    # Another machine has the record and no workdir.
    (tmp_path / "work").rename(tmp_path / "elsewhere")
    again = _run(program, tmp_path)
    assert "trained" not in again.stdout
    assert json.loads((tmp_path / "record.json").read_text())["final"]["runs"] == record["final"]["runs"]


def test_usage_errors(program, tmp_path):
    assert "matches none of low, high" in usage_error(_run(program, tmp_path, "--rows=x*"))
    assert "has no results" in usage_error(_run(program, tmp_path, "--table_only"))
    (tmp_path / "record.json").write_text('{"tuning": 3}')
    assert "is not the record of a study" in usage_error(_run(program, tmp_path))
