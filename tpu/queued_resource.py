"""Training on a queued resource of Cloud TPU: requests it, waits, trains, queues again after a preemption, deletes it.

Runs `gcloud compute tpus`, and `scripts/tpu_vm/on_vm.sh` on the hosts.
"""

import contextlib
import dataclasses
import json
import os
import pathlib
import shlex
import signal
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence

from convzoo.errors import ConfigError, UnavailableError
from convzoo.training.signals import Interrupted

MAX_FAILURES = 10  # failed queries in a row before giving up
NODE = "{node}"  # in the flags of train.py: index of the node, from 0
_LABEL = "convzoo-run"
_PROJECT = pathlib.Path(__file__).resolve().parent.parent
_INSTALL = _PROJECT / "scripts" / "tpu_vm" / "install.sh"
_ON_VM = "convzoo/scripts/tpu_vm/on_vm.sh"


@dataclasses.dataclass(frozen=True)
class Request:
    """A request for TPUs.

    Attributes:
        name: Name of the queued resource and of its node; several nodes are called NAME-0, NAME-1, ...
        zone: Zone, such as "us-central1-a".
        accelerator_type: Type and size, such as "v5litepod-8".
        runtime_version: Image of the hosts, such as "v2-alpha-tpuv5-lite".
        project: Cloud project; None for that of gcloud.
        spot: Whether the TPUs may be preempted. They are then requested again.
        valid_until_duration: How long to wait for the TPUs, such as "6h"; None for no limit.
        node_count: Number of TPU slices; each runs its own training.
    """

    name: str
    zone: str
    accelerator_type: str
    runtime_version: str
    project: str | None = None
    spot: bool = False
    valid_until_duration: str | None = None
    node_count: int = 1


class GcloudError(UnavailableError):
    """A gcloud command failed. `output` is what it printed."""

    def __init__(self, command: Sequence[str], output: str):
        lines = [line.strip() for line in output.splitlines() if line.strip()] or ["no message"]
        reason = next((line for line in lines if line.startswith("ERROR")), lines[-1])
        super().__init__(f"{' '.join(command[:5])} failed: {reason}")
        self.output = output


class _Preempted(Exception):
    """A node was preempted although its queued resource is still active."""


@dataclasses.dataclass
class _Node:
    """A TPU slice and the progress of its training."""

    name: str
    flags: list[str]
    is_installed: bool = False
    is_started: bool = False
    is_finished: bool = False
    state: str = ""


def train(request: Request, flags: Sequence[str], poll: float, log: Callable[[str], None]) -> None:
    """Requests TPUs, runs `train.py` on them until it ends with status 0, and deletes them.

    With `request.spot`, preempted TPUs are deleted and requested again; the training resumes from its newest
    checkpoint. SIGINT, SIGTERM and SIGHUP delete the TPUs. A second SIGINT ends at once, without waiting for the
    deletion. Only a queued resource with the label that this call has given it is ever deleted.

    Args:
        request: The TPUs.
        flags: Flags of train.py except --tpu; "{node}" stands for the index of the node.
        poll: Seconds between queries.
        log: Called with each message.

    Raises:
        ConfigError: A flag is invalid, or a queued resource with this name exists.
        UnavailableError: The request failed, the training failed, or gcloud does not work.
        Interrupted: A signal stopped the program.
    """
    if not (_PROJECT / ".git").exists():
        raise ConfigError(
            f"{_PROJECT} is not a clone of the repository; run the program in one, whose commit it installs"
        )
    _check_flags(flags, request.node_count)
    _Queue(request, flags, poll, log).run()


def _check_flags(flags, node_count):
    workdir = ""
    for flag in flags:
        name, _, value = flag.removeprefix("--").partition("=")
        if name in ("tpu", "tpu_zone", "gcp_project", "devices"):
            raise ConfigError(f"{flag} is chosen by this program; leave it out")
        if name == "workdir":
            workdir = value
    if not workdir.startswith("gs://"):
        raise ConfigError(
            f"--workdir={workdir} of train.py is not in gs:// and would be lost with the TPU; write --workdir=gs://... "
            "after --"
        )
    if node_count > 1 and NODE not in workdir:
        raise ConfigError(
            f"--workdir={workdir} would be shared by the trainings of {node_count} nodes; write {NODE} for their index"
        )


class _Queue:
    """One call of `train`."""

    def __init__(self, request, flags, poll, log):
        self._request, self._poll, self._log = request, poll, log
        self._run_id = uuid.uuid4().hex
        self._signals = _Signals()
        self._flags = list(flags)
        self._nodes = self._new_nodes()
        self._created = False  # whether the resource was created, once at least
        self._to_create = True
        self._is_confirmed, self._create_time = False, None  # whether the last create command succeeded
        self._state = ""

    def run(self):
        with self._signals:
            if self._describe(of_anyone=True) is not None:
                raise ConfigError(
                    f"a queued resource {self._request.name!r} exists in {self._request.zone}; choose another --name, "
                    f"or delete it: {shlex.join(self._delete_command())}"
                )
            try:
                self._train()
            finally:
                self._clean_up()

    def _new_nodes(self):
        request = self._request
        names = [f"{request.name}-{index}" for index in range(request.node_count)]
        if request.node_count == 1:
            names = [request.name]
        return [
            _Node(name, [flag.replace(NODE, str(index)) for flag in self._flags]) for index, name in enumerate(names)
        ]

    def _train(self):
        failures = 0
        while not all(node.is_finished for node in self._nodes):
            try:
                self._step()
                failures = 0
            except GcloudError as error:
                failures += 1
                # Later failures may be temporary, and a preemption shows as a failure at first.
                if not self._created or failures == MAX_FAILURES:
                    raise
                self._log(f"{error}; trying again in {self._poll:g} s")
            if not all(node.is_finished for node in self._nodes):
                time.sleep(self._poll)

    def _step(self):
        """Queries the state once; creates, starts, waits or deletes accordingly."""
        name = self._request.name
        if self._to_create:
            self._create()
            return
        state, reason = self._describe() or ("", "")
        if state != self._state:
            self._log(f"{name} is {state or 'deleted'}")
            self._state = state
        if not state:
            raise UnavailableError(f"the queued resource {name!r} was deleted by someone else; it is not queued again")
        if state == "FAILED":
            raise UnavailableError(
                f"the request {name!r} failed ({reason or 'no reason given'}); run the command again"
            )
        try:
            if state == "SUSPENDED":
                raise _Preempted
            if state == "ACTIVE":
                for node in self._nodes:
                    if not node.is_finished:
                        self._advance(node)
        except _Preempted:
            if not self._request.spot:
                raise UnavailableError(
                    f"the TPUs of {name!r} were taken away; run the command again, with --spot to queue automatically"
                ) from None
            self._log(f"{name} was preempted; queueing it again")
            with self._signals.held():
                self._delete()
                self._to_create = True

    def _create(self):
        request = self._request
        nodes = ["--node-id=" + request.name]
        if request.node_count > 1:
            nodes = [f"--node-count={request.node_count}", f"--node-prefix={request.name}"]
        options = [
            *nodes,
            f"--accelerator-type={request.accelerator_type}",
            f"--runtime-version={request.runtime_version}",
            f"--labels={_LABEL}={self._run_id}",
            *(["--spot"] if request.spot else []),
            *([f"--valid-until-duration={request.valid_until_duration}"] if request.valid_until_duration else []),
        ]
        # An interrupted command may have created the resource, so it is awaited.
        with self._signals.held():
            command = self._command("queued-resources", "create", request.name, *options)
            self._log(shlex.join(command))
            self._is_confirmed, self._create_time = False, None
            try:
                _run(command)
                self._is_confirmed = True
            except GcloudError:
                # A lost connection does not say whether the resource exists.
                if self._describe() is None:
                    raise
            self._created, self._to_create, self._nodes = True, False, self._new_nodes()

    def _delete(self):
        """Deletes the resource if it exists and is this call's."""
        if self._describe() is not None:
            command = self._delete_command()
            self._log(shlex.join(command))
            _run(command)

    def _delete_command(self):
        return self._command("queued-resources", "delete", self._request.name, "--force")

    def _clean_up(self):
        with self._signals.held():
            for failures in range(1, MAX_FAILURES + 1):
                try:
                    return self._delete()
                except GcloudError as error:
                    if failures == MAX_FAILURES:
                        raise UnavailableError(
                            f"the TPUs of {self._request.name!r} could not be deleted ({error}) and cost money; run "
                            f"{shlex.join(self._delete_command())}"
                        ) from error
                    self._log(f"{error}; trying again in {self._poll:g} s")
                    time.sleep(self._poll)
                except KeyboardInterrupt:
                    self._log(f"not deleted; run {shlex.join(self._delete_command())}")
                    raise

    def _describe(self, of_anyone=False) -> tuple[str, str] | None:
        """Returns the state of the queued resource and the reason of a failure; None if it does not exist.

        Raises:
            ConfigError: It exists and was created by someone else, unless `of_anyone`.
        """
        try:
            resource = self._query("queued-resources", "describe", self._request.name)
        except GcloudError as error:
            if "NOT_FOUND" in error.output:
                return None
            raise
        if not of_anyone and not self._is_ours(resource):
            raise ConfigError(
                f"the queued resource {self._request.name!r} was created by someone else and is left alone; choose "
                "another --name"
            )
        state = resource.get("state", {})
        reason = state.get("failedData", {}).get("error", {}).get("message", "")
        return state.get("state", "in an unknown state"), reason

    def _is_ours(self, resource):
        spec = (resource.get("tpu", {}).get("nodeSpec") or [{}])[0]
        label = spec.get("node", {}).get("labels", {}).get(_LABEL)
        if label or not self._is_confirmed:
            return label == self._run_id
        # If Cloud TPU did not return labels, the resource would never be deleted. A name can exist only once, so that
        # a successful command has created it, until the name belongs to a later one.
        self._create_time = self._create_time or resource.get("createTime")
        return resource.get("createTime") == self._create_time

    def _advance(self, node):
        """Installs convzoo on a node, starts its training, or queries it."""
        found = self._query("tpu-vm", "describe", node.name)
        hosts = [endpoint["ipAddress"] for endpoint in found.get("networkEndpoints", ())]
        if found.get("state") in ("PREEMPTED", "TERMINATED"):
            raise _Preempted
        if found.get("state") != "READY" or not hosts:
            self._log_state(node, found.get("state", "in an unknown state"))
            return
        tpu = "local" if len(hosts) == 1 else ",".join(f"grpc://{host}:8470" for host in hosts)
        arguments = shlex.join([f"--tpu={tpu}", *node.flags])
        if not node.is_installed:
            self._log(f"installing convzoo on {node.name}")
            _run([str(_INSTALL), f"--name={node.name}", *self._location()])
            node.is_installed = True
        if not node.is_started:
            if len(hosts) > 1:
                self._ssh(node, f"{_ON_VM} serve", worker="all")
            self._ssh(node, f"{_ON_VM} start {arguments}")
            node.is_started = True
            return
        status = self._ssh(node, f"{_ON_VM} status {arguments}").rstrip().rpartition("\n")[2]
        self._log_state(node, f"training: {status}")
        if status == "failed":
            with contextlib.suppress(GcloudError):
                self._log(self._ssh(node, f"{_ON_VM} last"))
            raise UnavailableError(f"the training on {node.name} failed; the last lines of its log are above")
        node.is_finished = status == "finished"
        # A host that was restarted has no training any more, and one that was replaced has no convzoo.
        node.is_started = status not in ("stopped", "not installed")
        node.is_installed = status != "not installed"

    def _log_state(self, node, state):
        if state != node.state:
            self._log(f"{node.name}: {state}")
            node.state = state

    def _ssh(self, node, command, worker="0"):
        return self._gcloud("tpu-vm", "ssh", node.name, f"--worker={worker}", f"--command={command}")

    def _gcloud(self, *arguments):
        return _run(self._command(*arguments))

    def _query(self, *arguments):
        """Returns the JSON object that a command prints."""
        command = self._command(*arguments, "--format=json")
        text = _run(command)
        try:
            return json.loads(text)
        except ValueError as error:
            raise GcloudError(command, text) from error

    def _command(self, *arguments):
        return ["gcloud", "compute", "tpus", *arguments, "--quiet", *self._location()]

    def _location(self):
        project = [f"--project={self._request.project}"] if self._request.project else []
        return [f"--zone={self._request.zone}", *project]


def _run(command):
    """Returns the standard output of a command. Kills it if a signal interrupts this program."""
    try:
        # In another session, so that Ctrl-C reaches only this program.
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
    except FileNotFoundError as error:
        raise ConfigError(f"{command[0]} is missing; install the Google Cloud CLI") from error
    try:
        output, messages = process.communicate()
    except BaseException:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise
    if process.returncode:
        raise GcloudError(command, messages or output)
    return output


class _Signals:
    """Context manager in which SIGINT, SIGTERM and SIGHUP raise `Interrupted`: within `held`, at its end.

    After the first signal, only SIGINT raises it again: a terminal that closes can send several others.
    """

    _NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def __init__(self):
        self._first, self._is_held, self._previous = None, False, {}

    def __enter__(self):
        if threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.signal(number, self._handle) for number in self._NUMBERS}
        return self

    def __exit__(self, *exception):
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _handle(self, number, frame):
        if self._first is None:
            self._first = number
            if not self._is_held:
                raise Interrupted(number)
        elif number == signal.SIGINT:
            raise Interrupted(number)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Delays the first signal until the end of the block."""
        before, self._is_held = self._first, True
        try:
            yield
        finally:
            self._is_held = False
            if self._first is not None and before is None:
                raise Interrupted(self._first)
