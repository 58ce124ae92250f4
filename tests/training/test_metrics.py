"""Metrics files, TensorBoard and the progress display of a run."""

import io

from convzoo.training.metrics import MetricsWriter, ProgressDisplay, read_metrics

SCALARS = {"loss": 1.25, "accuracy": 0.5, "learning_rate": 0.01, "images_per_second": 123.4}


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_plain_lines_without_a_terminal():
    output = io.StringIO()
    progress = ProgressDisplay(0, 10, output)
    progress.update(5, SCALARS, seconds_left=61)
    progress.close()
    assert output.getvalue() == (
        "step 5/10  loss 1.2500  accuracy 50.00%  learning rate 0.01  images/s 123  left 0:01:01\n"
    )


def test_a_bar_on_a_terminal():
    output = Terminal()
    progress = ProgressDisplay(2, 10, output)
    progress.message("a line of its own")
    progress.update(5, SCALARS, seconds_left=61)
    progress.close()
    assert "5/10" in output.getvalue()
    assert "loss 1.2500  accuracy 50.00%" in output.getvalue()
    assert "a line of its own\n" in output.getvalue()


def test_lines_of_steps_that_are_made_again_are_dropped(tmp_path):
    writer = MetricsWriter(str(tmp_path))
    for step in (5, 10, 15):
        writer.write(step, {"train/loss": step / 10})
    # As a killed process leaves it.
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"step": 2')
    assert [line["step"] for line in read_metrics(str(tmp_path))] == [5, 10, 15]
    MetricsWriter(str(tmp_path), first_step=10).write(12, {"train/loss": 0.1})
    assert read_metrics(str(tmp_path)) == [
        {"step": 5, "train/loss": 0.5},
        {"step": 10, "train/loss": 1.0},
        {"step": 12, "train/loss": 0.1},
    ]
