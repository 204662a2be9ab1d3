"""The image's lists beside pyproject.toml and constraints.txt, and its Dockerfile beside a linter and the lists."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import pytest
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
#: Of the image, whatever runs the test.
IMAGE = {"python_version": "3.11", "sys_platform": "linux", "platform_machine": "x86_64", "os_name": "posix"}


def locked(file: Path) -> dict[str, str]:
    """Versions by package in a list of `name==version` lines, those that it includes too."""
    found: dict[str, str] = {}
    for line in file.read_text().splitlines():
        if line.startswith("-r "):
            found |= locked(file.with_name(line.removeprefix("-r ")))
        elif line and not line.startswith("#"):
            match = re.fullmatch(r"([A-Za-z0-9._-]+)==([0-9][A-Za-z0-9.+]*)", line)
            assert match is not None, f"{file.name}: expected NAME==VERSION, got {line!r}"
            name = canonicalize_name(match[1])
            assert name not in found, f"{file.name}: {name} twice"
            found[name] = match[2]
    return found


def needed() -> set[str]:
    """The project's dependencies in the image, with those for S3, and theirs: all that `pip install` would bring."""
    found: dict[str, set[str]] = {}
    waiting = [Requirement(line) for line in (*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["s3"])]
    while waiting:
        one = waiting.pop()
        name = canonicalize_name(one.name)
        if not applies(one.marker, set()) or (name in found and one.extras <= found[name]):
            continue
        extras = found[name] = found.get(name, set()) | one.extras
        for line in of_package(name):
            inner = Requirement(line)
            if applies(inner.marker, extras):
                inner.marker = None
                waiting.append(inner)
    return set(found)


def applies(marker: Marker | None, extras: set[str]) -> bool:
    """Whether a requirement with the marker counts in the image."""
    return marker is None or any(marker.evaluate(IMAGE | {"extra": extra}) for extra in extras | {""})


def of_package(name: str) -> list[str]:
    """What a package that is installed here requires; both builds of ONNX Runtime require the same."""
    try:
        return requires(name) or []
    except PackageNotFoundError:
        assert name == "onnxruntime-gpu", f"{name} is not installed"
        return requires("onnxruntime") or []


def test_cpu_list() -> None:
    """The CPU image holds what the project needs, and no more, with onnxruntime for onnxruntime-gpu; all in the
    versions that the tests ran with."""
    versions = locked(ROOT / "constraints.txt")
    names = needed() - {"onnxruntime-gpu"} | {"onnxruntime"}
    assert {name: versions.get(name, "no version in constraints.txt") for name in names} == locked(
        DEPLOY / "requirements-cpu.txt"
    )


def test_gpu_list() -> None:
    """The GPU image holds the same with onnxruntime-gpu, and CUDA's libraries in the series that this was built for."""
    versions, gpu = locked(ROOT / "constraints.txt"), locked(DEPLOY / "requirements-gpu.txt")
    cuda = {name: version for name, version in gpu.items() if name.startswith("nvidia-")}
    assert {name: versions[name] for name in needed()} == {name: gpu[name] for name in gpu.keys() - cuda.keys()}
    wanted = [Requirement(line) for line in of_package("onnxruntime-gpu")]
    wanted = [one for one in wanted if applies(one.marker, {"cuda", "cudnn"}) and one.name.startswith("nvidia-")]
    # cuDNN brings cuBLAS, which brings nothing; cuFFT brings nvJitLink.
    assert {"nvidia-cublas", "nvidia-nvjitlink"} == cuda.keys() - {one.name for one in wanted} or not wanted
    for one in wanted:
        assert one.specifier.contains(cuda[one.name]), f"{one.name} {one.specifier} expected, got {cuda[one.name]}"


def test_build_list() -> None:
    """What makes the wheel is locked too: the build backend of pyproject.toml."""
    backend = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    versions = locked(DEPLOY / "requirements-build.txt")
    for one in map(Requirement, backend):
        assert one.specifier.contains(versions[one.name])


def test_dockerfile() -> None:
    """Not root, not by a name; signals reach the worker itself; nothing is installed that no list locks."""
    lines = (DEPLOY / "Dockerfile").read_text().replace("\\\n", " ").splitlines()
    for line in ("USER 10001:10001", "VOLUME /data", "STOPSIGNAL SIGTERM", 'ENTRYPOINT ["interest"]', 'CMD ["worker"]'):
        assert line in lines
    targets = [line.split()[-1] for line in lines if line.startswith("FROM ")]
    assert ["gpu", "cpu"] == targets[-2:], "cpu is the default target, which is the last"
    installs = re.findall(r"pip .*? (?:install|wheel) .*?(?=&&|$)", "\n".join(lines), re.MULTILINE)
    assert len(installs) == 6
    for install in installs:
        assert "--no-deps" in install
        assert re.search(r"-r requirements[a-z-]*\.txt|wheel/\*\.whl|--no-build-isolation", install)


def test_context() -> None:
    """All that the Dockerfile copies passes .dockerignore, which passes nothing else of the project."""
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    passed = {line.removeprefix("!") for line in ignored if line.startswith("!")}
    copies = re.findall(r"^COPY (?!--from)(.*) \S+$", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE)
    named = {name for copy in copies for name in copy.split()}
    assert "*" in ignored
    assert {"deploy/requirements*.txt", "deploy/kafka/pom.xml"} == passed - named
    assert {"deploy/kafka"} == {name for name in named - passed if not name.startswith("deploy/requirements")}
    assert all((ROOT / name).exists() for name in named)


@pytest.mark.parametrize(("tool", "file"), [("hadolint", "Dockerfile"), ("shellcheck", "image-test")])
def test_linters(tool: str, file: str) -> None:
    """Dockerfile and script have no finding."""
    found = shutil.which(tool, path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if found is None:
        pytest.skip(f"{tool} is not here; the extra dev brings it")
    done = subprocess.run([found, str(DEPLOY / file)], capture_output=True, text=True, check=False)
    assert (0, "") == (done.returncode, done.stdout + done.stderr)
