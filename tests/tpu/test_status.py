"""State of a Cloud TPU, from Google's client with a fake Cloud TPU API."""

import cloud_tpu_client  # noqa: F401  its flag has to be there before flags are parsed
import pytest
from absl import flags
from helpers.programs import run, usage_error

from convzoo.errors import ConfigError, UnavailableError
from convzoo.tpu.status import get_status, make_client, wait_until_healthy

READY = {
    "state": "READY",
    "health": "HEALTHY",
    "acceleratorType": "v5litepod-8",
    "tensorflowVersion": "2.19.1",
    "networkEndpoints": [{"ipAddress": "10.0.0.2", "port": 8470}, {"ipAddress": "10.0.0.3", "port": 8470}],
}


class Service:
    """Fake Cloud TPU API: every query returns the first of `answers`, which a test may change."""

    def __init__(self, *answers):
        self.answers, self.asked = list(answers), []

    def projects(self):
        return self

    locations = nodes = projects

    def get(self, name):
        self.asked.append(name)
        return self

    def execute(self):
        answer = self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture(autouse=True)
def _parsed_flags():
    flags.FLAGS.mark_as_parsed()
    yield
    flags.FLAGS.unparse_flags()


def of(*answers):
    service = Service(*answers)
    return make_client("my-tpu", "zone", "project", service=service), service


def test_status_of_a_healthy_tpu():
    one, service = of(READY)
    status = get_status(one)
    assert (status.name, status.state, status.health) == ("my-tpu", "READY", "HEALTHY")
    assert (status.accelerator, status.runtime) == ("v5litepod-8", "2.19.1")
    assert status.endpoints == ("10.0.0.2:8470", "10.0.0.3:8470")
    assert status.recoverable
    assert set(service.asked) == {"projects/project/locations/zone/nodes/my-tpu"}


def test_waiting_until_it_is_healthy():
    one, service = of({"state": "CREATING"})
    seen, slept = [], []

    def sleep(seconds):
        slept.append(seconds)
        service.answers = [[{**READY, "health": "UNHEALTHY_TENSORFLOW"}, READY][len(slept) - 1]]

    assert wait_until_healthy(one, 100.0, 30.0, seen.append, sleep).health == "HEALTHY"
    assert seen[0].endpoints == ()
    assert [status.state for status in seen] == ["CREATING", "READY", "READY"]
    assert slept == [30.0, 30.0]


def test_a_preempted_one_is_not_waited_for():
    symptom = {"symptomType": "OUT_OF_MEMORY", "createTime": "2026-01-02T03:04:05.6Z"}
    one, _ = of({"state": "PREEMPTED", "symptoms": [symptom]})
    seen = []
    with pytest.raises(UnavailableError, match="'my-tpu' is PREEMPTED"):
        wait_until_healthy(one, 100.0, 30.0, seen.append, pytest.fail)
    assert seen[0].symptoms == ("OUT_OF_MEMORY (2026-01-02T03:04:05.6Z)",)


def test_waiting_has_an_end():
    one, _ = of({"state": "CREATING"})
    slept = []
    with pytest.raises(UnavailableError, match="60 s"):
        wait_until_healthy(one, 60.0, 30.0, lambda status: None, slept.append)
    assert slept == [30.0, 30.0]


def test_failed_query():
    one, _ = of(PermissionError("no leave to ask"))
    with pytest.raises(ConfigError, match=r"'my-tpu'.*no leave to ask"):
        get_status(one)


def test_the_program_without_the_client(tmp_path):
    program = tmp_path / "tpu_status.py"
    program.write_text(
        "import runpy, sys\nsys.modules['cloud_tpu_client'] = None\n"
        "runpy.run_path('scripts/tpu_status.py', run_name='__main__')\n"
    )
    line = usage_error(run(program, "--tpu=a", "--tpu_zone=b", "--gcp_project=c"))
    assert "cloud-tpu-client cannot be imported (" in line
    assert "install it together with TensorFlow" in line
    assert "--tpu is missing" in usage_error(run("scripts/tpu_status.py"))
