"""The Dockerfile and the job files for GKE, without Docker or a cluster: they fit each other and the project."""

import pathlib
import re

import pytest
import setuptools
import yaml
from packaging.requirements import Requirement

from convzoo.cli.main import _PROGRAMS
from convzoo.configs import efficientnet_condconv_imagenet

ROOT = pathlib.Path(__file__).parent.parent
DEVICES = ("gpu", "tpu")
# Chips of a host, by accelerator and topology (cloud.google.com/kubernetes-engine/docs/concepts/plan-tpus).
CHIPS_PER_HOST = {("tpu-v5-lite-podslice", "2x4"): 8, ("tpu-v5-lite-podslice", "4x4"): 4}


@pytest.fixture(scope="module")
def settings():
    """The arguments of setup() in setup.py."""
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(setuptools, "setup", found.update)
        patch.chdir(ROOT)
        exec(compile((ROOT / "setup.py").read_text(), ROOT / "setup.py", "exec"), {"__file__": str(ROOT / "setup.py")})
    return found


def _instructions():
    text = re.sub(r"\\\n", " ", (ROOT / "Dockerfile").read_text())
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [tuple(line.split(None, 1)) for line in lines]


def test_stages_of_the_dockerfile(settings):
    instructions = _instructions()
    assert {name for name, _ in instructions} == {"ARG", "FROM", "COPY", "RUN", "ENV", "WORKDIR", "ENTRYPOINT"}
    arguments = dict(value.split("=") for name, value in instructions[:2])
    assert arguments["DEVICE"] in DEVICES
    assert re.fullmatch(r"3\.11\.\d+", arguments["PYTHON"])  # the version of tpu.txt and gpu.txt, and of the ENV path
    images = [value for name, value in instructions if name == "FROM"]
    stages = [image.split()[2] for image in images[:-1]]
    assert stages[-2:] == list(DEVICES)
    assert images[-1] == "${DEVICE}"
    for image in images[:-1]:
        source = image.split()[0]
        assert source in stages or source == "python:${PYTHON}-slim-bookworm"
    for name, value in instructions:
        if name == "COPY" and "--from" not in value:
            source = value.split()[0]
            assert all((ROOT / source.replace("${DEVICE}", device)).exists() for device in DEVICES)
    assert instructions[-1] == ("ENTRYPOINT", '["convzoo"]')
    assert settings["entry_points"]["console_scripts"] == ["convzoo=convzoo.cli.main:main"]


@pytest.mark.parametrize("device", DEVICES)
def test_the_pinned_requirements_satisfy_setup(settings, device):
    lines = (ROOT / "scripts" / "docker" / f"{device}.txt").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if not line.startswith("#"))
    for text in settings["install_requires"] + settings["extras_require"][device]:
        requirement = Requirement(text)
        name = re.sub("[-_.]+", "-", requirement.name).lower()
        assert pins[name] in requirement.specifier, text


def test_what_docker_ignores_is_not_installed(settings):
    ignored = (ROOT / ".dockerignore").read_text().split()
    for package in settings["packages"]:
        assert not {package.removeprefix("convzoo").removeprefix(".").replace(".", "/"), package} & set(ignored)
    assert not {"README.md", "setup.py", "pyproject.toml", ".package", "scripts", "py.typed"} & set(ignored)


def _pods(kind):
    """Returns the Job specs of a file by name, and its text."""
    text = (ROOT / "scripts" / "gke" / kind).read_text()
    document = yaml.safe_load(text)
    if document["kind"] == "Job":
        return {"train": document["spec"]}, document, text
    jobs = {job["name"]: job["template"]["spec"] for job in document["spec"]["replicatedJobs"]}
    return jobs, document, text


@pytest.mark.parametrize("kind", ["train.yaml", "train_slice.yaml"])
def test_job_files(kind):
    jobs, _, text = _pods(kind)
    for placeholder in ("IMAGE", "BUCKET", "SERVICE_ACCOUNT"):
        assert f"s|{placeholder}|" in text
    for job in jobs.values():
        pod = job["template"]["spec"]
        assert pod["restartPolicy"] == "Never"  # podFailurePolicy requires it
        (container,) = pod["containers"]
        assert container["image"] == "IMAGE"
        assert container["args"][0] in _PROGRAMS
        for rule in job.get("podFailurePolicy", {}).get("rules", ()):
            assert rule.get("onExitCodes", {}).get("containerName") in (None, container["name"])
        if "nodeSelector" in pod:
            selector = pod["nodeSelector"]
            key = selector["cloud.google.com/gke-tpu-accelerator"], selector["cloud.google.com/gke-tpu-topology"]
            chips = container["resources"]["limits"]["google.com/tpu"]
            assert chips == CHIPS_PER_HOST[key]
            width, height = map(int, key[1].split("x"))
            assert job.get("completions", 1) == width * height // chips  # an index for each host
        if container["args"][0] == "train":
            flags = dict(argument.removeprefix("--").split("=", 1) for argument in container["args"][1:])
            assert flags["workdir"].startswith("gs://BUCKET/")
            name, variant = flags["config"].split(":")
            assert efficientnet_condconv_imagenet.__name__.endswith(f".{name}")
            efficientnet_condconv_imagenet.get_config(variant)


def test_the_coordinator_knows_all_hosts():
    jobs, document, _ = _pods("train_slice.yaml")
    name = document["metadata"]["name"]
    (tpu,) = (flag for flag in jobs["coordinator"]["template"]["spec"]["containers"][0]["args"] if "--tpu=" in flag)
    hosts = [f"grpc://{name}-host-0-{index}.{name}:8470" for index in range(jobs["host"]["completions"])]
    assert tpu.removeprefix("--tpu=").split(",") == hosts
    assert document["spec"]["successPolicy"]["targetReplicatedJobs"] == ["coordinator"]
    assert jobs["host"]["completions"] == jobs["host"]["parallelism"]
