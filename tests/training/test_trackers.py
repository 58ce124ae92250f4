"""Trackers and callbacks of a run: what they receive, resumed runs, missing packages and failing servers."""

import contextlib
import glob
import importlib.util
import io
import json
import os
import re
import signal
import struct
import sys
import time
import types

import numpy as np
import PIL.Image
import pytest
import tensorflow as tf
from helpers import tiny

from convzoo.errors import ConfigError, DataError, UnavailableError
from convzoo.training import checkpoints, loop, trackers
from convzoo.training.callbacks import Callbacks, Event
from convzoo.training.devices import connect
from convzoo.training.loop import train
from convzoo.training.metrics import read_metrics
from convzoo.training.signals import Interrupted
from convzoo.training.trackers import Tracker, check_installed, start_trackers

EVENTS = []  # of the callback below
# mlflow-skinny requires google-auth 2 and the extra "cloud", which the tests need, google-auth 1.
_NO_MLFLOW = "mlflow cannot be installed together with the extra cloud"


def record_event(event):
    """A callback, as test_trackers:record_event; sends itself SIGTERM at step 3 of the first process of a run."""
    weights = {weight.path: weight.numpy() for weight in event.model.weights}
    EVENTS.append((event, weights, checkpoints.newest(event.workdir)))
    if event.kind == "log" and event.step == 3 and not checkpoints.newest(event.workdir):
        os.kill(os.getpid(), signal.SIGTERM)


@pytest.fixture(autouse=True)
def _offline(monkeypatch):
    for name, value in {"WANDB_MODE": "offline", "WANDB_SILENT": "true", "WANDB_CONSOLE": "off"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setitem(sys.modules, "my_callbacks", sys.modules[__name__])


def _config(**fields):
    config = tiny.get_config()
    config.model.name, config.model.operator = "mobilenet_v1_x0_25", {}
    config.model.overrides = {"blocks": ((8, 2), (8, 2)), "stem_strides": 2}
    config.epochs = 1.0
    config.update(fields)
    return config


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Workdir of a run of 8 steps that was stopped after step 3 and resumed, the events of its callback, its output.

    The resumed process has a tracker more, which fails at every call.
    """
    workdir = str(tmp_path_factory.mktemp("runs") / "stopped")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"WANDB_MODE": "offline", "WANDB_SILENT": "true", "WANDB_CONSOLE": "off"}.items():
            patch.setenv(name, value)
        patch.setitem(sys.modules, "my_callbacks", sys.modules[__name__])
        config = _config(trackers=("tensorboard", "wandb"), callbacks=("my_callbacks:record_event",))
        EVENTS.clear()
        with pytest.raises(Interrupted):
            train(config, workdir, connect(devices="cpu"))
        config.trackers = ("tensorboard", "wandb", "mlflow")
        patch.setattr(loop, "check_installed", lambda names: None)
        patch.setitem(trackers._REMOTE, "mlflow", lambda *args: _Failing(fails=True))
        with contextlib.redirect_stdout(io.StringIO()) as output:
            train(config, workdir, connect(devices="cpu"))
    return workdir, list(EVENTS), output.getvalue()


def _wandb_records(path):
    """Returns the records of a .wandb file: LevelDB's log format after a header of 7 bytes."""
    from wandb.proto import wandb_internal_pb2

    with open(path, "rb") as file:
        content = file.read()
    position, whole = 7, b""
    while position + 7 <= len(content):
        if 32768 - position % 32768 < 7:
            position += 32768 - position % 32768
        length, kind = struct.unpack("<HB", content[position + 4 : position + 7])
        whole += content[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # a full or the last part of a record
            yield wandb_internal_pb2.Record.FromString(whole)
            whole = b""


def _wandb_process(path):
    """Returns the config, the metrics by step, the summary and the exit code of one process of a W&B run."""
    config, metrics, summary, exit_code = {}, {}, {}, None
    end = time.monotonic() + 60
    while not any(record.HasField("exit") for record in _wandb_records(path)):
        assert time.monotonic() < end
        time.sleep(0.05)  # W&B writes the file a little after `finish` returns
    for record in _wandb_records(path):
        for item in [*record.run.config.update, *record.config.update]:
            config[item.key or item.nested_key[0]] = json.loads(item.value_json)
        values = {item.key or "/".join(item.nested_key): item.value_json for item in record.history.item}
        if values:
            metrics.setdefault(record.history.step.num, {}).update({k: json.loads(v) for k, v in values.items()})
        summary |= {item.key or item.nested_key[0]: json.loads(item.value_json) for item in record.summary.update}
        if record.HasField("exit"):
            exit_code = record.exit.exit_code
    return config, metrics, summary, exit_code


def test_wandb_receives_config_metrics_and_summary(run):
    workdir, *_ = run
    run_id = trackers._read_ids(f"{workdir}/trackers.json")["wandb"]
    paths = sorted(glob.glob(f"{workdir}/wandb/offline-run-*-{run_id}/run-{run_id}.wandb"), key=os.path.getmtime)
    stopped, resumed = (_wandb_process(path) for path in paths)
    assert (stopped[3], resumed[3]) == (1, 0)
    for config, *_ in (stopped, resumed):
        assert config["model"]["name"] == "mobilenet_v1_x0_25"
        assert config["optimizer"]["learning_rate"] == 0.01
    metrics = {**stopped[1], **resumed[1]}
    assert [sorted(process[1]) for process in (stopped, resumed)] == [[1, 3], [6, 8]]
    for line in read_metrics(workdir):
        step = line.pop("step")
        assert {name: metrics[step][name] for name in line} == pytest.approx(line)
    best = checkpoints.read_best_info(workdir)
    assert resumed[2]["best/top1"] == best["value"]
    assert resumed[2]["best/step"] == best["step"] == 8


def test_tensorboard_receives_config_and_metrics(run):
    workdir, *_ = run
    values, config = {}, None
    for path in sorted(glob.glob(f"{workdir}/tensorboard/events.*")):
        for event in tf.compat.v1.train.summary_iterator(path):
            for value in event.summary.value:
                tensor = tf.make_ndarray(value.tensor)
                if value.tag == "config":
                    config = json.loads(tensor.item().decode().removeprefix("```json\n").removesuffix("\n```"))
                elif tensor.ndim == 0:
                    values[event.step, value.tag] = float(tensor)
    assert config["model"]["name"] == "mobilenet_v1_x0_25"
    for line in read_metrics(workdir):
        step = line.pop("step")
        assert {name: values[step, name] for name in line} == pytest.approx(line, rel=1e-5)


def test_callbacks_receive_every_event(run):
    workdir, recorded, _ = run
    events = [event for event, *_ in recorded]
    assert [(event.kind, event.step) for event in events] == [
        *(("log", 1), ("log", 3), ("checkpoint", 3)),  # then stopped
        *(("log", 6), ("log", 8), ("evaluation", 8), ("checkpoint", 8)),
    ]
    assert all(event.workdir == workdir and event.is_chief for event in events)
    lines = read_metrics(workdir)
    logged = [{"step": event.step, **event.metrics} for event in events if event.kind != "checkpoint"]
    assert logged == lines
    assert events[-1].metrics == {key: value for line in lines[2:] for key, value in line.items() if key != "step"}
    # Files of a checkpoint are complete, and the networks are those that the event names.
    for kind, prefix in (("checkpoint", "model"), ("evaluation", "ema")):
        (_, weights, newest) = next(entry for entry in reversed(recorded) if entry[0].kind == kind)
        assert newest.endswith("ckpt-8" if kind == "checkpoint" else "ckpt-3")
        reader = tf.train.load_checkpoint(f"{workdir}/checkpoints/ckpt-8")
        saved = reader.get_tensor(f"variables/{prefix}.Sstem_conv.Skernel/.ATTRIBUTES/VARIABLE_VALUE")
        np.testing.assert_array_equal(weights["stem_conv/kernel"], saved)


def test_a_training_outlives_its_tracker(run):
    workdir, _, output = run
    assert read_metrics(workdir)[-1]["step"] == 8
    assert output.count("mlflow failed") == 1


def _png():
    file = io.BytesIO()
    PIL.Image.new("RGB", (4, 4)).save(file, "PNG")
    return file.getvalue()


class _FakeMLflow(types.ModuleType):
    """What convzoo uses of mlflow, in memory."""

    def __init__(self):
        super().__init__("mlflow")
        self.runs, self.entities = {}, types.SimpleNamespace(Metric=lambda *args: args, Param=lambda *args: args)

    def set_experiment(self, name):
        return types.SimpleNamespace(experiment_id=name)

    def MlflowClient(self):
        return self

    def create_run(self, experiment_id, run_name):
        run_id = str(len(self.runs))
        self.runs[run_id] = {"experiment": experiment_id, "name": run_name, "params": {}, "metrics": {}, "images": []}
        self.runs[run_id]["status"] = "RUNNING"
        return types.SimpleNamespace(info=types.SimpleNamespace(run_id=run_id))

    def update_run(self, run_id, status):
        self.runs[run_id]["status"] = status

    set_terminated = update_run

    def log_batch(self, run_id, metrics=(), params=()):
        assert len(params) <= 100
        for name, value in params:
            assert self.runs[run_id]["params"].setdefault(name, value) == value
        for name, value, _, step in metrics:
            self.runs[run_id]["metrics"].setdefault(name, []).append((step, value))

    def log_image(self, run_id, image, key, step):
        self.runs[run_id]["images"].append((key, step, image.size))

    def read(self, run_id):
        return self.runs[run_id]


def _read_mlflow(run_id):
    import mlflow

    client = mlflow.MlflowClient()
    run = client.get_run(run_id)
    return {
        "experiment": client.get_experiment(run.info.experiment_id).name,
        "name": run.info.run_name,
        "status": run.info.status,
        "params": run.data.params,
        "metrics": {
            name: [(entry.step, entry.value) for entry in client.get_metric_history(run_id, name)]
            for name in run.data.metrics
        },
        "images": [("eval/regions", 6, (4, 4))] * len(client.list_artifacts(run_id, "images")[::2]),
    }


@pytest.fixture(params=["fake", "installed"])
def mlflow_reader(request, monkeypatch, tmp_path):
    """Returns what an MLflow run contains, by its id."""
    if request.param == "fake":
        fake = _FakeMLflow()
        fake.__spec__ = importlib.util.spec_from_loader("mlflow", loader=None, origin="fake")
        monkeypatch.setitem(sys.modules, "mlflow", fake)
        return fake.read
    pytest.importorskip("mlflow", reason=_NO_MLFLOW)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    return _read_mlflow


def test_mlflow_run_is_continued(mlflow_reader, tmp_path):
    workdir, config = tmp_path / "stopped", {"seed": 0, "model": {"name": "resnet18", "operator": {}}}
    workdir.mkdir()
    messages = []
    check_installed(("mlflow",))

    def stopped_process():
        with start_trackers(("mlflow",), str(workdir), config, messages.append) as first:
            first.log(3, {"train/loss": 2.0, "norms/weight/@": 1.0})
            raise Interrupted(signal.SIGTERM)

    with pytest.raises(Interrupted):
        stopped_process()
    run_id = json.loads((workdir / "trackers.json").read_text())["mlflow"]
    assert mlflow_reader(run_id)["status"] == "KILLED"
    config["seed"] = 1  # as a field that may change
    checkpoints.write_best_info(str(workdir), 6, "top1", 0.5)
    with start_trackers(("mlflow",), str(workdir), config, messages.append) as second:
        second.log(6, {"train/loss": 1.0})
        second.log_images(6, {"eval/regions": _png()})
    result = mlflow_reader(run_id)
    assert result.pop("params") == {"seed": "0", "model.name": "resnet18"}
    assert result == {
        "experiment": "convzoo",
        "name": "stopped",
        "status": "FINISHED",
        "metrics": {
            "train/loss": [(3, 2.0), (6, 1.0)],
            "norms/weight/_": [(3, 1.0)],
            "best/top1": [(6, 0.5)],
            "best/step": [(6, 6.0)],
        },
        "images": [("eval/regions", 6, (4, 4))],
    }
    with pytest.raises(ZeroDivisionError), start_trackers(("mlflow",), str(workdir), config, messages.append):
        raise ZeroDivisionError
    assert mlflow_reader(run_id)["status"] == "FAILED"
    assert messages == []


def test_wandb_receives_images(tmp_path):
    messages = []
    with start_trackers(("wandb",), str(tmp_path), {}, messages.append) as run:
        run.log_images(2, {"eval/regions": _png()})
    assert messages == []
    (path,) = glob.glob(f"{tmp_path}/wandb/offline-run-*/*.wandb")
    logged = _wandb_process(path)[1][2]
    assert logged["eval/regions/_type"] == "image-file"
    (file,) = glob.glob(f"{tmp_path}/wandb/offline-run-*/files/{logged['eval/regions/path']}")
    assert PIL.Image.open(file).size == (4, 4)


class _Failing(Tracker):
    def __init__(self, fails=False):
        self.run_id, self.received, self.fails = "1", [], fails

    def log(self, step, metrics):
        if self.fails:
            raise ConnectionError("server.example does not answer\nand a second line")
        self.received.append(step)

    def close(self, status, summary):
        self.received.append(status)


def test_a_tracker_that_fails_ends_nothing(monkeypatch, tmp_path):
    tracker, messages = _Failing(), []
    monkeypatch.setitem(trackers._REMOTE, "wandb", lambda *args: tracker)
    monkeypatch.setattr(trackers, "_PAUSE_SECONDS", 0.2)

    def wait_for(count):
        end = time.monotonic() + 10
        while len(messages) + len(tracker.received) < count:
            assert time.monotonic() < end
            time.sleep(0.005)

    with start_trackers(("wandb",), str(tmp_path), {}, messages.append) as run:
        run.log(1, {"loss": 1.0})
        wait_for(1)
        tracker.fails = True
        for step in (2, 3):  # one message; the second falls into the pause
            run.log(step, {"loss": 1.0})
        wait_for(2)
        time.sleep(0.3)
        tracker.fails = False
        run.log(4, {"loss": 1.0})
    assert tracker.received == [1, 4, "finished"]
    assert messages[0] == "warning: wandb failed (server.example does not answer); the training continues"
    assert len(messages) == 2
    assert "2 of the entries" in messages[1]


def test_trackers_that_do_not_start(monkeypatch, tmp_path):
    def fail(workdir, run_id):
        raise ValueError("No API key configured")

    monkeypatch.setitem(trackers._REMOTE, "wandb", fail)
    with (
        pytest.raises(UnavailableError, match=r"wandb does not start .No API key"),
        start_trackers(("wandb",), str(tmp_path), {}, print),
    ):
        pass
    (tmp_path / "trackers.json").write_text('{"wandb": "abc"}')
    messages = []
    with start_trackers(("wandb",), str(tmp_path), {}, messages.append) as started:
        started.log(1, {"loss": 1.0})
    (message,) = messages
    assert re.search(r"run abc of .*trackers\.json .No API key.*; the training resumes without it", message)
    for content in ("[]", '{"wandb": 3}', "{"):
        (tmp_path / "trackers.json").write_text(content)
        with (
            pytest.raises(ConfigError, match=r"trackers\.json is damaged"),
            start_trackers(("wandb",), str(tmp_path), {}, print),
        ):
            pass


def test_missing_packages_are_named_before_anything_is_written(monkeypatch, tmp_path):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    config = _config(trackers=("tensorboard", "mlflow"))
    with pytest.raises(ConfigError, match=r"pip install 'convzoo\[mlflow\]'"):
        train(config, str(tmp_path / "run"), connect(devices="cpu"))
    assert not (tmp_path / "run").exists()
    check_installed(("tensorboard",))


def test_a_folder_is_no_package(monkeypatch, tmp_path):
    (tmp_path / "mlflow").mkdir()  # a package without a file is a namespace package
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    with pytest.raises(ConfigError, match="not installed"):
        check_installed(("mlflow",))


def _event(kind="log"):
    return Event(kind, 3, {}, "runs/a", None, True)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nothing", "has no ':'"),
        ("no_such_module:f", "No module named 'no_such_module'"),
        ("os:no_such_function", "no_such_function"),
        ("os:sep", "is str, not a function"),
        ("broken_callbacks:f", "ZeroDivisionError"),
    ],
)
def test_callbacks_that_do_not_exist(name, message, monkeypatch, tmp_path):
    (tmp_path / "broken_callbacks.py").write_text("1 / 0")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    with pytest.raises(ConfigError, match=message):
        train(_config(callbacks=(name,)), str(tmp_path / "run"), connect(devices="cpu"))
    assert not (tmp_path / "run").exists()


def test_errors_in_callbacks_keep_their_cause(monkeypatch):
    module = types.ModuleType("failing")

    def fail(event):
        raise PermissionError("no")  # the programs print one line for this error of their own

    def stop(event):
        raise DataError("enough")

    module.fail, module.stop = fail, stop
    monkeypatch.setitem(sys.modules, "failing", module)
    with pytest.raises(RuntimeError, match=r"failing:fail failed after the log of step 3") as caught:
        Callbacks(("failing:fail",))(_event())
    assert isinstance(caught.value.__cause__, PermissionError)
    with pytest.raises(DataError, match="enough"):
        Callbacks(("failing:stop",))(_event())
