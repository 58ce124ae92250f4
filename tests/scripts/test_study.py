"""The study program as a user runs it: made, made no second time, stopped, gone on with, and wrongly asked for."""

import fcntl
import json
import os
import signal
import subprocess
import sys

import pytest
from helpers.programs import ROOT, TINY, run, usage_error

ONE_EPOCH = "--override=config.epochs=1"
AT_ONCE = (f"--jobs={min(2, len(os.sched_getaffinity(0)))}", "--devices=cpu")
LOST = "--set=lost: config.optimizer.learning_rate=1e30"


def study(folder, *arguments):
    return run("scripts/study.py", f"--workdir={folder}", f"--config={TINY}", *arguments)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A study of a row that can be trained and one that cannot."""
    folder = tmp_path_factory.mktemp("study") / "made"
    page = folder.with_name("page.md")
    page.write_text("before\n<!-- study:tiny -->\n<!-- /study:tiny -->\nafter\n")
    result = study(folder, ONE_EPOCH, LOST, "--seeds=1", "--markers", f"{page}:tiny", *AT_ONCE)
    assert result.returncode == 1, result.stderr
    assert "1 runs failed" in result.stderr
    return folder


def test_each_run_is_recorded_and_a_failed_one_stops_no_other(made):
    record = json.loads((made / "study.json").read_text())
    assert [row["name"] for row in record["rows"]] == ["tiny", "tiny lost"]
    good, lost = record["runs"]["tiny/seed_0"], record["runs"]["tiny_lost/seed_0"]
    assert (good["status"], good["step"], good["examples"]) == ("finished", 8, 128)
    evaluation = json.loads((made / "tiny" / "seed_0" / "evaluations" / "best_test.json").read_text())
    assert good["top1"] == evaluation["top1"]
    assert good["images_per_second"] > 0
    assert good["commands"][0].startswith(f"python train.py --config={TINY} --config.epochs=1 --config.seed=0 ")
    assert lost["status"] == "failed"
    assert lost["output"][-1].startswith("train.py: train/loss is not finite")
    table = (made / "table.md").read_text()
    assert f" {100 * good['top1']:.2f} |" in table
    assert "Failed: tiny lost, seed 0: train.py: train/loss is not finite" in table
    assert made.with_name("page.md").read_text() == (
        f"before\n<!-- study:tiny -->\n{table}<!-- /study:tiny -->\nafter\n"
    )


def test_finished_runs_are_not_repeated(made):
    before = (made / "study.json").read_text()
    result = study(made, ONE_EPOCH, "--seeds=1")
    assert result.returncode == 0, result.stderr
    assert result.stdout == "1 rows, 1 runs each: 1 runs, 0 to make\n"
    after = json.loads((made / "study.json").read_text())
    assert after["runs"] == json.loads(before)["runs"]
    assert "lost" not in (made / "table.md").read_text()
    (made / "table.md").unlink()
    result = run("scripts/study.py", f"--workdir={made}", "--table_only")
    assert result.returncode == 0, result.stderr
    assert "| tiny " in (made / "table.md").read_text()
    (made / "study.json").write_text(before)


def test_it_is_drawn(made, tmp_path):
    shown = tmp_path / "new" / "study.png"
    result = run("scripts/draw_study.py", f"--workdir={made}", "--across=images_per_second", f"--output={shown}")
    assert result.returncode == 0, result.stderr
    assert result.stdout == f"1 rows: written to {shown}\n"
    assert shown.read_bytes().startswith(b"\x89PNG")
    assert "has no finished run" in usage_error(run("scripts/draw_study.py", f"--workdir={tmp_path}"))
    shown = tmp_path / "curves.png"
    result = run("scripts/draw_curves.py", f"--workdir=one: {made}/tiny/seed_*", f"--output={shown}")
    assert result.returncode == 0, result.stderr
    assert result.stdout == f"1 runs: written to {shown}\n"
    assert shown.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            [ONE_EPOCH, "--override=config.batch_size=32"],
            "batch_size is 16 in the workdir and 32 now",
        ),
        ([ONE_EPOCH, "--split=train"], "has --split=test, not train"),
        ([ONE_EPOCH, "--markers=README.md:nothing"], "<!-- study:nothing -->"),
    ],
)
def test_a_changed_study_is_refused(made, arguments, message):
    before = (made / "study.json").read_text()
    assert message in usage_error(study(made, *arguments))
    assert (made / "study.json").read_text() == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--override=epochs=1"], "'epochs=1'"),
        (["--override=config.epoch=1"], "epoch"),
        (["--set=config.epochs=1"], "write 'NAME: config.FIELD=VALUE ...'"),
        (["--set=a: 'config.epochs=1"], "write 'NAME: config.FIELD=VALUE ...'"),
        (["--markers=page.md"], "cannot read --markers=page.md; write FILE:NAME"),
        (["--workdir=/dev/null/x"], "cannot write to --workdir=/dev/null/x"),
        (["--set=a: config.epochs=1", "--set=a: config.epochs=2"], "'tiny a'"),
        (["--split=nowhere"], "nowhere"),
        (["--table_only"], "has no study.json"),
        (["--sweep=config.epochs="], "write config.FIELD=VALUE,VALUE"),
        (["--sweep=config.epochs=(1,2"], "the brackets do not match"),
        (["--sweep=config.epochs=1,1"], "'tiny epochs=1'"),
        (["--folds=3"], "--checkpoint=newest"),
        (["--folds=3", "--checkpoint=newest", "--override=config.data.train_split=train[:9]"], "'train[:9]'"),
        (["--search=config.epochs=int(1, 2)"], "--trials"),
        (["--search=config.epochs=int(3, 2)", "--trials=1"], "write each field once"),
        (["--search=config.epochs=1,2", "--trials=1"], "write each field once"),
        (["--search=config.epoch=int(1, 2)", "--trials=1"], "epoch"),
        (["--jobs=2"], "--jobs=2"),
        (["--jobs=1000", "--devices=cpu"], "--jobs=1000 is more than the"),
    ],
)
def test_usage_errors_write_nothing(arguments, message, tmp_path):
    assert message in usage_error(study(tmp_path / "study", *arguments))
    assert not (tmp_path / "study").exists()


def test_search_with_cross_validation(tmp_path):
    def search(trials):
        return study(
            tmp_path, ONE_EPOCH, "--seeds=1", "--folds=2", "--checkpoint=newest", f"--trials={trials}",
            "--search=config.optimizer.learning_rate=float(0.01, 0.1, log)", *AT_ONCE,
        )  # fmt: skip

    result = search(1)
    assert result.returncode == 0, result.stderr
    record = json.loads((tmp_path / "study.json").read_text())
    (row,) = record["rows"]
    (rate,) = row["parameters"].values()
    assert 0.01 <= rate <= 0.1
    assert row["config"]["optimizer"]["learning_rate"] == rate
    runs = [record["runs"][f"tiny_trial_1/seed_0_fold_{fold}"] for fold in range(2)]
    assert [run["examples"] for run in runs] == [64, 64]
    assert "--config.data.train_split=train[50%:]" in runs[0]["commands"][0].replace("'", "")
    top1 = 50 * sum(run["top1"] for run in runs)
    assert f"best top-1 {top1:.2f} %: tiny trial_1" in result.stdout
    assert "one of 2 folds" in (tmp_path / "table.md").read_text()
    result = search(1)
    assert "2 runs, 0 to make" in result.stdout
    other = ["--search=config.epochs=int(1, 2)", "--trials=1", "--seeds=1", "--folds=2", "--checkpoint=newest"]
    assert "searches config.optimizer.learning_rate, not config.epochs" in usage_error(study(tmp_path, *other))


def test_one_study_at_a_time(tmp_path):
    with open(tmp_path / "study.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        other = usage_error(run("scripts/study.py", f"--workdir={tmp_path}", f"--config={TINY}", "--seeds=1"))
    assert "another study runs" in other
    assert [path.name for path in tmp_path.iterdir()] == ["study.lock"]


def test_stopped_study_resumes(tmp_path):
    arguments = [
        "scripts/study.py", f"--workdir={tmp_path}", f"--config={TINY}", "--seeds=1", "--override=config.epochs=24",
        "--override=config.eval_every_epochs=8", "--override=config.checkpoint_every_epochs=3",
    ]  # fmt: skip
    with subprocess.Popen(
        [sys.executable, *arguments], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        said = []
        for line in process.stdout:
            said.append(line)
            if line.strip().startswith("step 48/192"):
                process.send_signal(signal.SIGTERM)
    assert process.returncode == 130
    assert "interrupted at step" in said[-2]
    assert said[-1] == "[1/1] tiny, seed 0: interrupted; the same command resumes it\n"
    (interrupted,) = json.loads((tmp_path / "study.json").read_text())["runs"].values()
    assert interrupted["status"] == "interrupted"
    result = run(*arguments)
    assert result.returncode == 0, result.stderr
    assert "resuming from" in result.stdout
    (finished,) = json.loads((tmp_path / "study.json").read_text())["runs"].values()
    assert finished["status"] == "finished"
    assert len(finished["seconds"]) == 2
    assert finished["seconds"][0] == interrupted["seconds"][0]
