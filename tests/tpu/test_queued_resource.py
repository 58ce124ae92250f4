"""Training on a queued resource, with a fake gcloud that records its calls and answers from files."""

import os
import re
import shlex
import signal

import pytest
from helpers.programs import ROOT, TINY, run

from convzoo.errors import ConfigError, UnavailableError
from convzoo.tpu import queued_resource
from convzoo.training.signals import Interrupted

REQUEST = queued_resource.Request("q", "z", "v6e-8", "image", project="p", spot=True, valid_until_duration="6h")
FLAGS = ["--config=configs/a.py:b", "--workdir=gs://bucket/a b"]
# A line "STATE signal=INT" of the states sends the signal to the caller first; "STATE label=x" has another label, and
# "STATE created=x" no label and this creation time.
GCLOUD = """#!/usr/bin/env bash
printf '%s\\n' "$*" >> CALLS
next() { head -n 1 "$1"; sed -i 1d "$1"; }
case "$*" in
    *"queued-resources describe"*)
        read -r state rest <<< "$(next STATES)"
        label=$(cat LABEL 2> /dev/null)
        case $rest in
            signal=*) kill -"${rest#signal=}" $PPID; sleep 0.2 ;;
            label=*) label=${rest#label=} ;;
            created=*) label='' ;;
        esac
        case $state in
            garbage) echo "garbage"; exit ;;
            '' | absent) echo "ERROR: (gcloud) NOT_FOUND: q" >&2; exit 1 ;;
            denied) echo "a hint"; echo "ERROR: (gcloud) PERMISSION_DENIED: who are you" >&2; exit 1 ;;
        esac
        printf '{"state": {"state": "%s", "failedData": {"error": {"message": "no capacity"}}}, ' "$state"
        [ -z "$label" ] || printf '"tpu": {"nodeSpec": [{"node": {"labels": {"convzoo-run": "%s"}}}]}, ' "$label"
        printf '"createTime": "%s"}' "${rest#created=}" ;;
    *"queued-resources create"*)
        answer=$(next CREATED)
        [ "$answer" != refused ] || { echo "ERROR: (gcloud) INVALID_ARGUMENT: image" >&2; exit 1; }
        echo "$*" | sed 's/.*--labels=convzoo-run=\\([0-9a-f]*\\).*/\\1/' > LABEL
        [ "$answer" != interrupted ] || kill -INT $PPID
        [ "$answer" != lost ] || { echo "ERROR: connection lost" >&2; exit 1; } ;;
    *"queued-resources delete"*) [ "$(next DELETED)" != denied ] || { echo "ERROR: try later" >&2; exit 1; } ;;
    *"tpu-vm describe"*)
        state=$(next NODES)
        printf '{"state": "%s", "networkEndpoints": [%s]}' "${state:-READY}" "$(cat ENDPOINTS)" ;;
    *"on_vm.sh status"*)
        status=$(next STATUSES)
        [ "$status" != unreachable ] || exit 255
        printf 'a banner\\n%s\\n' "$status" ;;
    *"on_vm.sh last"*) echo "the end of the log" ;;
esac
"""


@pytest.fixture
def queue(tmp_path, monkeypatch):
    """A function that trains with the fake gcloud, and returns the error, the messages and the calls."""
    (tmp_path / "bin").mkdir()
    for name, text in (("gcloud", GCLOUD), ("install.sh", '#!/usr/bin/env bash\necho "install $*" >> CALLS\n')):
        (tmp_path / "bin" / name).write_text(text)
        (tmp_path / "bin" / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(queued_resource, "_INSTALL", tmp_path / "bin" / "install.sh")

    def train(request=REQUEST, flags=FLAGS, hosts=1, **answers):
        for name in ("states", "created", "deleted", "nodes", "statuses"):
            (tmp_path / name.upper()).write_text("".join(f"{line}\n" for line in answers.get(name, ())))
        (tmp_path / "CALLS").write_text("")
        (tmp_path / "ENDPOINTS").write_text(",".join(f'{{"ipAddress": "10.0.0.{i}"}}' for i in range(hosts)))
        error, messages = None, []
        try:
            queued_resource.train(request, flags, 0.01, messages.append)
        except (ConfigError, UnavailableError, Interrupted) as raised:
            error = raised
        calls = (tmp_path / "CALLS").read_text().splitlines()
        return error, messages, [call.removeprefix("compute tpus ") for call in calls]

    return train


def _verbs(calls):
    """Returns the calls of gcloud as words: the verb of a queued resource, "node" for a query of a TPU, on_vm.sh's."""
    words = []
    for call in calls:
        on_vm = re.search(r"on_vm\.sh (\w+)", call)
        first, second = call.split()[:2]
        words.append(on_vm[1] if on_vm else "node" if first == "tpu-vm" else second if first[0] == "q" else first)
    return words


STARTED = ["describe", "node", "install", "start"]
POLLED = ["describe", "node", "status"]


def test_preempted_tpus_are_requested_again_until_the_training_ends(queue):
    error, messages, calls = queue(
        states=[
            *("absent", "WAITING_FOR_RESOURCES", "PROVISIONING", "ACTIVE", "ACTIVE", "SUSPENDING", "SUSPENDED"),
            *("SUSPENDED", "ACCEPTED", "ACTIVE", "ACTIVE", "ACTIVE"),
        ],
        statuses=["running", "finished"],
    )
    assert error is None
    assert _verbs(calls) == [
        *("describe", "create", "describe", "describe", *STARTED, *POLLED, "describe", "describe"),
        *("describe", "delete", "create", "describe", *STARTED, *POLLED, "describe", "delete"),
    ]
    # The first query after the preemption finds it, the second one is that of the deletion.
    assert all(call.endswith("--zone=z --project=p") for call in calls)
    first, second = (call for call in calls if " create " in call)
    assert first == second
    assert re.fullmatch(
        r"queued-resources create q --node-id=q --accelerator-type=v6e-8 --runtime-version=image "
        r"--labels=convzoo-run=[0-9a-f]{32} --spot --valid-until-duration=6h --quiet --zone=z --project=p",
        first,
    )
    start = next(call for call in calls if "on_vm.sh start" in call)
    assert "tpu-vm ssh q --worker=0 " in start
    command = start.split("--command=")[1].removesuffix(" --quiet --zone=z --project=p")
    assert shlex.split(command)[1:] == ["start", "--tpu=local", *FLAGS]
    assert [message for message in messages if " is " in message] == [
        "q is WAITING_FOR_RESOURCES", "q is PROVISIONING", "q is ACTIVE", "q is SUSPENDING", "q is SUSPENDED",
        "q is ACCEPTED", "q is ACTIVE",
    ]  # fmt: skip


def test_a_preempted_node_of_an_active_resource(queue):
    states = ["absent", *["ACTIVE"] * 6]
    error, _, calls = queue(states=states, nodes=["CREATING", "PREEMPTED", "READY", "READY"], statuses=["finished"])
    assert error is None
    again = ["describe", "node", "describe", "delete", "create"]
    assert _verbs(calls)[2:] == ["describe", "node", *again, *STARTED, *POLLED, "describe", "delete"]


def test_without_spot_a_preemption_is_a_failure(queue):
    request = queued_resource.Request("q", "z", "v6e-8", "image")
    error, _, calls = queue(request, states=["absent", "SUSPENDED", "SUSPENDED"])
    assert "taken away" in str(error)
    assert error.exit_status == 1
    assert _verbs(calls) == ["describe", "create", "describe", "describe", "delete"]
    assert not {"--spot", "--project", "--valid-until-duration"} & {word.split("=")[0] for word in calls[1].split()}


def test_a_failed_request_gives_its_reason(queue):
    error, _, calls = queue(states=["absent", "FAILED", "FAILED"])
    assert "no capacity" in str(error)
    assert _verbs(calls)[-1] == "delete"


def test_a_failed_training_shows_its_log(queue):
    error, messages, calls = queue(states=["absent", *["ACTIVE"] * 3], statuses=["failed"])
    assert "the training on q failed" in str(error)
    assert "the end of the log\n" in messages
    assert _verbs(calls)[-3:] == ["last", "describe", "delete"]


def test_a_name_that_exists_is_refused(queue):
    error, _, calls = queue(states=["ACTIVE"])
    assert isinstance(error, ConfigError)
    assert "'q' exists in z" in str(error)
    assert "\n" not in str(error)
    assert _verbs(calls) == ["describe"]


@pytest.mark.parametrize(
    ("created", "states"),
    [
        ("", ["ACTIVE label=other"] * 2),
        ("refused", ["ACTIVE label=other"] * 2),
        ("refused", ["ACTIVE created=1"] * 2),
        ("", ["ACTIVE created=1", "ACTIVE created=2", "ACTIVE created=2"]),
    ],
)
def test_resources_of_others_are_never_deleted(queue, created, states):
    """Another program creates the name after the first query."""
    error, _, calls = queue(states=["absent", *states], created=[created], statuses=["running"])
    assert isinstance(error, ConfigError)
    assert "created by someone else" in str(error)
    assert "delete" not in _verbs(calls)


def test_without_labels_the_creation_time_identifies_the_resource(queue):
    error, _, calls = queue(states=["absent", *["ACTIVE created=1"] * 3], statuses=["finished"])
    assert error is None
    assert _verbs(calls)[-1] == "delete"


def test_a_resource_that_someone_else_deletes_is_not_created_again(queue):
    error, _, calls = queue(states=["absent", "ACTIVE", "absent", "absent"])
    assert "deleted by someone else" in str(error)
    assert _verbs(calls).count("create") == 1


def test_a_refused_request(queue):
    error, _, calls = queue(states=["absent", "absent", "absent"], created=["refused"])
    assert isinstance(error, UnavailableError)
    assert "INVALID_ARGUMENT" in str(error)
    assert _verbs(calls) == ["describe", "create", "describe", "describe"]


def test_a_request_whose_answer_is_lost_goes_on(queue):
    states = ["absent", "ACCEPTED", *["ACTIVE"] * 3]
    error, _, calls = queue(states=states, created=["lost"], statuses=["finished"])
    assert error is None
    assert _verbs(calls) == ["describe", "create", "describe", *STARTED, *POLLED, "describe", "delete"]


def test_failed_queries_are_repeated(queue):
    error, messages, calls = queue(
        states=["absent", "denied", "garbage", *["ACTIVE"] * 7],
        statuses=["unreachable", "stopped", "finished"],
        deleted=["denied"],
    )
    assert error is None
    assert sum("trying again" in message for message in messages) == 4
    polls = [*POLLED, *POLLED, "describe", "node", "start", *POLLED]
    assert _verbs(calls)[2:] == ["describe", "describe", *STARTED, *polls, "describe", "delete", "describe", "delete"]


def test_queries_that_always_fail_end_the_program(queue, monkeypatch):
    monkeypatch.setattr(queued_resource, "MAX_FAILURES", 3)
    error, _, calls = queue(states=["absent", *["denied"] * 6])
    assert "could not be deleted" in str(error)
    assert "gcloud compute tpus queued-resources delete q --force --quiet --zone=z --project=p" in str(error)
    assert _verbs(calls) == ["describe", "create", *["describe"] * 6]
    error, _, calls = queue(states=["denied"])
    assert "PERMISSION_DENIED" in str(error)
    assert len(calls) == 1


@pytest.mark.parametrize("name", ["INT", "TERM", "HUP"])
def test_signals_delete_the_tpus(queue, name):
    before = signal.getsignal(signal.SIGINT)
    error, _, calls = queue(states=["absent", f"ACTIVE signal={name}", "ACTIVE"])
    assert error.number == getattr(signal, f"SIG{name}")
    assert _verbs(calls) == ["describe", "create", "describe", "describe", "delete"]
    assert signal.getsignal(signal.SIGINT) is before


def test_a_signal_during_the_request_waits_for_it(queue):
    error, _, calls = queue(states=["absent", "ACCEPTED"], created=["interrupted"])
    assert error.number == signal.SIGINT
    assert _verbs(calls) == ["describe", "create", "describe", "delete"]


@pytest.mark.parametrize(("name", "deleted"), [("INT", []), ("TERM", ["delete"]), ("HUP", ["delete"])])
def test_only_ctrl_c_ends_a_deletion(queue, name, deleted):
    error, messages, calls = queue(states=["absent", "ACTIVE signal=INT", f"ACTIVE signal={name}"])
    assert error.number == signal.SIGINT
    assert _verbs(calls) == ["describe", "create", "describe", "describe", *deleted]
    assert messages[-1].endswith("queued-resources delete q --force --quiet --zone=z --project=p")


def test_several_hosts_serve_their_chips(queue):
    error, _, calls = queue(states=["absent", *["ACTIVE"] * 3], statuses=["finished"], hosts=2)
    assert error is None
    assert _verbs(calls)[4:7] == ["install", "serve", "start"]
    assert "--worker=all" in calls[5]
    assert "--worker=0" in calls[6]
    assert "--tpu=grpc://10.0.0.0:8470,grpc://10.0.0.1:8470 " in calls[6]


def test_several_nodes_train_for_themselves(queue):
    request = queued_resource.Request("q", "z", "v6e-8", "image", node_count=2)
    flags = ["--workdir=gs://b/{node}", "--config.seed={node}"]
    statuses = ["running", "finished", "finished"]
    error, _, calls = queue(request, flags, states=["absent", *["ACTIVE"] * 4], statuses=statuses)
    assert error is None
    assert "--node-count=2 --node-prefix=q" in calls[1]
    starts = [call for call in calls if "on_vm.sh start" in call]
    assert [call.split()[2] for call in starts] == ["q-0", "q-1"]
    assert ["--workdir=gs://b/1 --config.seed=1" in call for call in starts] == [False, True]
    polls = [call.split()[2] for call in calls if "on_vm.sh status" in call]
    assert polls == ["q-0", "q-1", "q-0"]


@pytest.mark.parametrize(
    ("flags", "node_count", "message"),
    [
        (["--workdir=runs/a"], 1, "--workdir=runs/a"),
        ([], 1, "--workdir="),
        ([*FLAGS, "--tpu=local"], 1, "--tpu=local"),
        ([*FLAGS, "--devices=cpu"], 1, "--devices=cpu"),
        (FLAGS, 2, "{node}"),
    ],
)
def test_invalid_flags(queue, flags, node_count, message):
    request = queued_resource.Request("q", "z", "v6e-8", "image", node_count=node_count)
    error, _, calls = queue(request, flags)
    assert isinstance(error, ConfigError)
    assert message in str(error)
    assert calls == []


def test_without_gcloud(monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ConfigError, match="gcloud is missing"):
        queued_resource.train(REQUEST, FLAGS, 0.01, print)


def test_the_program(queue, tmp_path):
    """Flags after -- belong to train.py: here a name of a config that only the host resolves."""
    queue()  # writes the files
    (tmp_path / "STATES").write_text("absent\nACTIVE\nACTIVE\nACTIVE\n")
    (tmp_path / "STATUSES").write_text("finished\n")
    command = [ROOT / "scripts" / "tpu_queue.py", "--name=q", "--zone=z", "--poll=0.01", "--"]
    # The program installs convzoo with the script of the project, whose gcloud is the fake one too.
    result = run(*command, "--config=quickstart", "--config.epochs=1", "--workdir=gs://b/a", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    calls = (tmp_path / "CALLS").read_text()
    assert "on_vm.sh start --tpu=local --config=quickstart --config.epochs=1 --workdir=gs://b/a" in calls
    assert "--accelerator-type=v5litepod-8 --runtime-version=v2-alpha-tpuv5-lite" in calls
    assert "scp" in calls
    assert result.stdout.splitlines()[-1].endswith("queued-resources delete q --force --quiet --zone=z")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--", f"--config={TINY}"], "--zone is missing"),
        (["--zone=z", "--", "--workdir=gs://b/a"], "--config=... of train.py is missing"),
        (["--zone=z", "--", f"--config={TINY}", "--config.epoch=1"], "epoch"),
        (["--zone=z", "--", f"--config={TINY}", "--config.batch_size=0"], "config.batch_size=0"),
        (["--zone=z", "--node_count=0"], "node_count"),
    ],
)
def test_invalid_flags_of_the_program(queue, tmp_path, flags, message):
    queue()
    result = run(ROOT / "scripts" / "tpu_queue.py", "--name=q", *flags, cwd=tmp_path)
    assert result.returncode == 2, result.stderr
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("tpu_queue.py: ")]
    assert message in line
