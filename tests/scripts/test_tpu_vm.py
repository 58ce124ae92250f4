"""The scripts for Cloud TPU VMs, with a fake gcloud that records its calls, and the script that runs on the VM."""

import os
import pathlib
import re
import subprocess
import time

import pytest
from helpers.programs import ROOT

FOLDER = ROOT / "scripts" / "tpu_vm"
FLAGS = ("--name=vm", "--zone=z", "--project=p", "--type=v6e-8", "--version=image", "--spot", "--poll=0.01")
TRAINING = ("--", "--config=configs/a.py:b", "--workdir=gs://bucket/a b", "--config.init.freeze=('stem_*',)")
# Answers `describe` and the status of the training by the next line of a file, and everything else by nothing.
GCLOUD = """#!/usr/bin/env bash
printf '%s\\n' "$*" >> "$CALLS"
next() { head -n 1 "$1"; sed -i 1d "$1"; }
case "$*" in
    *describe*)
        state=$(next "$STATES")
        case $state in
            absent) echo "ERROR: NOT_FOUND: vm" >&2; exit 1 ;;
            denied) echo "ERROR: PERMISSION_DENIED: who are you" >&2; exit 1 ;;
        esac
        echo "$state" ;;
    *"create vm"*) [ "$(next "$CREATED")" != full ] ;;
    *"on_vm.sh status"*)
        status=$(next "$STATUSES")
        [ "$status" != unreachable ] || exit 255
        echo "$status" ;;
esac
"""


@pytest.fixture
def gcloud(tmp_path, monkeypatch):
    """Puts the stub before the PATH; a function that runs a script and returns its process and the stub's calls."""
    stub = tmp_path / "bin" / "gcloud"
    stub.parent.mkdir()
    stub.write_text(GCLOUD)
    stub.chmod(0o755)
    monkeypatch.setenv("PATH", f"{stub.parent}{os.pathsep}{os.environ['PATH']}")
    for name in ("CALLS", "STATES", "STATUSES", "CREATED"):
        monkeypatch.setenv(name, str(tmp_path / name))

    def run(script, *flags, states=(), statuses=(), created=()):
        for name, lines in (("STATES", states), ("STATUSES", statuses), ("CREATED", created), ("CALLS", ())):
            (tmp_path / name).write_text("".join(f"{line}\n" for line in lines))
        result = subprocess.run(
            [FOLDER / script, *flags], capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path
        )
        return result, [call.removeprefix("compute tpus tpu-vm ") for call in _lines(tmp_path / "CALLS")]

    return run


def _lines(path):
    return path.read_text().splitlines()


def _verbs(calls):
    """Returns the verb of a gcloud call, or for ssh the command on the VM."""
    return [re.search(r"on_vm\.sh (\w+)", call)[1] if call.startswith("ssh") else call.split()[0] for call in calls]


def test_a_training_outlives_a_preemption(gcloud):
    result, calls = gcloud(
        "train.sh", *FLAGS, *TRAINING,
        states=["absent", "absent", "CREATING", "READY", "READY", "PREEMPTED", "absent", "READY", "READY", "READY"],
        statuses=["stopped", "running", "stopped", "running", "finished"],
        created=["full"],
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    made = ["create", "scp", "install"]
    assert _verbs(calls) == [
        "describe", "create", "describe", *made, "describe",
        "describe", "status", "start", "describe", "status", "describe", "delete",
        "describe", *made, "describe", "status", "start", "describe", "status", "describe", "status",
    ]  # fmt: skip
    assert all(call.endswith("--zone=z --project=p") for call in calls)
    assert calls[1].startswith("create vm --accelerator-type=v6e-8 --version=image --spot ")
    start = next(call for call in calls if "on_vm.sh start" in call)
    # As the shell of the VM will read it.
    command = start.split("--command=")[1].removesuffix(" --zone=z --project=p")
    words = subprocess.run(
        ["bash", "-c", f"printf '%s\\n' {command}"], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert words[1:] == ["start", "--tpu=local", *TRAINING[1:]]


def test_failed_run_records_its_last_output(gcloud):
    result, calls = gcloud("train.sh", *FLAGS, *TRAINING, states=["READY"] * 2, statuses=["failed", "failed"])
    assert result.returncode == 1
    # The first failure is that of an earlier command.
    assert _verbs(calls) == ["describe", "status", "start", "describe", "status", "last"]


def test_a_vm_without_convzoo_gets_it(gcloud):
    statuses = ["not installed", "running", "finished"]
    result, calls = gcloud("train.sh", *FLAGS, *TRAINING, states=["READY"] * 3, statuses=statuses)
    assert result.returncode == 0, result.stderr
    assert _verbs(calls)[:4] == ["describe", "status", "scp", "install"]


def test_the_network_may_be_away_for_a_while(gcloud):
    states = ["READY", "denied", "READY", "READY"]
    result, calls = gcloud(
        "train.sh", *FLAGS, *TRAINING, states=states, statuses=["running", "unreachable", "finished"]
    )
    assert result.returncode == 0, result.stderr
    assert _verbs(calls) == ["describe", "status", "describe", "describe", "status", "describe", "status"]


@pytest.mark.parametrize(
    ("states", "statuses", "message"),
    [(["STOPPED"], [], "vm is stopped"), (["READY"], ["busy"], "another training runs on vm")],
)
def test_other_layers_stay_unchanged(gcloud, states, statuses, message):
    result, calls = gcloud("train.sh", *FLAGS, *TRAINING, states=states, statuses=statuses)
    assert result.returncode == 2
    assert message in result.stderr
    assert not {"delete", "start"} & set(_verbs(calls))


def test_gcloud_errors_are_shown(gcloud):
    result, calls = gcloud("train.sh", *FLAGS, *TRAINING, states=["denied"])
    assert result.returncode == 1
    assert "PERMISSION_DENIED" in result.stderr
    assert len(calls) == 1


@pytest.mark.parametrize(
    ("script", "flags", "verbs"),
    [
        ("create.sh", (), ["create", "scp", "ssh"]),
        ("install.sh", (), ["scp", "ssh"]),
        ("train.sh", TRAINING, ["describe", "create", "scp", "ssh", "ssh", "ssh"]),
        ("follow.sh", (), ["ssh"]),
        ("delete.sh", (), ["delete"]),
    ],
)
def test_a_dry_run_prints_the_commands_and_gives_none(gcloud, script, flags, verbs):
    result, calls = gcloud(script, *FLAGS, "--dry-run", *flags)
    assert (result.returncode, calls) == (0, [])
    lines = result.stdout.splitlines()
    assert [line.split()[4] for line in lines] == verbs
    assert all(line.startswith("gcloud compute tpus tpu-vm ") for line in lines)


@pytest.mark.parametrize(
    ("script", "flags", "message"),
    [
        ("create.sh", ("--zone=z",), "--name is missing"),
        ("delete.sh", ("--name=vm",), "--zone is missing"),
        ("follow.sh", ("--name=vm", "--zone=z", "--color"), "--color"),
        ("train.sh", (*FLAGS, "--poll=1min"), "--poll=1min"),
        ("train.sh", FLAGS, "--workdir=gs://... is missing"),
        ("train.sh", (*FLAGS, "--", "--workdir=runs/a"), "--workdir=runs/a"),
    ],
)
def test_invalid_arguments(gcloud, script, flags, message):
    result, calls = gcloud(script, *flags)
    assert (result.returncode, calls) == (2, [])
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1


# A Python that says where libtpu is, writes down how train.py was called, and ends it by the next line of a file.
PYTHON = """#!/usr/bin/env bash
if [ "$1" = -c ]; then echo /somewhere/libtpu.so; exit; fi
printf '%s|' "$@" "$PJRT_DEVICE" "$TF_PLUGGABLE_DEVICE_LIBRARY_PATH" "$NEXT_PLUGGABLE_DEVICE_USE_C_API" >> "$HOME/calls"
echo >> "$HOME/calls"
code=$(head -n 1 "$HOME/codes"); sed -i 1d "$HOME/codes"
if [ "$code" = wait ]; then
    for _ in {1..600}; do [ -e "$HOME/stop_waiting" ] && break; sleep 0.1; done
    code=0
fi
exit "$code"
"""


@pytest.fixture
def vm(tmp_path, monkeypatch):
    """A home folder as on the VM; a function that runs on_vm.sh there."""
    python = tmp_path / "convzoo-env" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(PYTHON)
    python.chmod(0o755)
    (tmp_path / "convzoo-env" / "installed").touch()
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("CONVZOO_PAUSE", "0")

    def run(*arguments, codes=()):
        if codes:
            (tmp_path / "codes").write_text("".join(f"{code}\n" for code in codes))
        return subprocess.run(
            [FOLDER / "on_vm.sh", *arguments], capture_output=True, text=True, timeout=60, check=False
        )

    run.home = pathlib.Path(tmp_path)
    return run


def test_a_training_that_ends_early_is_started_again(vm):
    assert vm("status").stdout == "stopped\n"
    assert vm("run", "--workdir=gs://b/a b", codes=[143, 1, 0]).returncode == 0
    call = "train.py|--workdir=gs://b/a b|TPU|/somewhere/libtpu.so|true|"
    assert _lines(vm.home / "calls") == [call] * 3
    assert vm("status").stdout == "finished\n"


@pytest.mark.parametrize(("codes", "times"), [([2], 1), ([3], 1), ([1, 3], 2), ([1] * 5, 5)])
def test_a_training_that_cannot_run_is_given_up(vm, codes, times):
    assert vm("run", codes=codes).returncode == 1
    assert len(_lines(vm.home / "calls")) == times
    assert vm("status").stdout == "failed\n"


def test_in_the_background_one_training_runs_at_a_time(vm):
    assert vm("start", "--a", codes=["wait"]).returncode == 0
    _wait_for(vm, "running", "--a")
    assert vm("status", "--b").stdout == "busy\n"
    second = vm("run", "--b")
    assert (second.returncode, second.stderr) == (1, "on_vm.sh: a training is already running\n")
    (vm.home / "stop_waiting").touch()
    _wait_for(vm, "finished")
    assert [call.split("|")[1] for call in _lines(vm.home / "calls")] == ["--a"]


def _wait_for(vm, status, *flags):
    for _ in range(100):
        if vm("status", *flags).stdout == f"{status}\n":
            return
        time.sleep(0.1)
    raise AssertionError(f"the training is {vm('status', *flags).stdout}, not {status}")


@pytest.mark.parametrize(
    ("tpu", "library"), [("local", "/somewhere/libtpu.so|"), ("grpc://a:8470,grpc://b:8470", "|0")]
)
def test_a_coordinator_leaves_the_chips_to_the_servers(vm, tpu, library):
    python = vm.home / "convzoo-env" / "bin" / "python"
    asked = 'printf \'%s|%s\' "$TF_PLUGGABLE_DEVICE_LIBRARY_PATH" "$TPU_LOAD_LIBRARY" > "$HOME/calls"\n'
    python.write_text(f"#!/usr/bin/env bash\nif [ $1 = -c ]; then echo /somewhere/libtpu.so; exit; fi\n{asked}")
    assert vm("run", "--workdir=gs://b/a", f"--tpu={tpu}").returncode == 0
    assert (vm.home / "calls").read_text() == library


def test_one_server_serves_the_chips_of_a_host(vm):
    server = vm.home / "convzoo-env" / "bin" / "start_grpc_tpu_worker"
    wait = 'for _ in {1..600}; do [ -e "$HOME/stop_waiting" ] && break; sleep 0.1; done'
    server.write_text(f'#!/usr/bin/env bash\necho "$PJRT_DEVICE $TF_PLUGGABLE_DEVICE_LIBRARY_PATH"\n{wait}\n')
    server.chmod(0o755)
    log = vm.home / "convzoo-run" / "server.log"
    assert vm("serve").returncode == 0
    for _ in range(100):
        if log.exists() and log.read_text():
            break
        time.sleep(0.1)
    second = vm("run_server")
    (vm.home / "stop_waiting").touch()
    assert log.read_text() == "TPU /somewhere/libtpu.so\n"
    assert (second.returncode, second.stderr) == (1, "on_vm.sh: a server is already running\n")


def test_without_libtpu_nothing_is_started_again(vm):
    python = vm.home / "convzoo-env" / "bin" / "python"
    python.write_text("#!/usr/bin/env bash\nexit 1\n")
    result = vm("run", codes=[0])
    assert result.returncode == 1
    assert "libtpu is not installed" in result.stdout
    assert vm("status").stdout == "failed\n"


def test_nothing_runs_where_nothing_is_installed(vm):
    (vm.home / "convzoo-env" / "installed").unlink()
    assert vm("status").stdout == "not installed\n"
