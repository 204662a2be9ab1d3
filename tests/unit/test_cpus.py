"""Threads follow what a pod may use, not what its host has."""

import os
from pathlib import Path
from unittest.mock import patch

import pytest

from stream.cpus import threads, usable

POD = "kubepods/burstable/pod1/container1"


def pod(tmp_path: Path, membership: str, files: dict[str, str], affinity: int = 16) -> int:
    """What is found in a pod with these cgroup files, on a host where the affinity names so many CPUs."""
    told = tmp_path / "cgroup"
    told.write_text(membership)
    for name, text in files.items():
        (tmp_path / "fs" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "fs" / name).write_text(text)
    with patch.object(os, "sched_getaffinity", lambda _pid: set(range(affinity))):
        return usable(tmp_path / "fs", told)


@pytest.mark.parametrize(
    ("limit", "expected"),
    [("max 100000", 16), ("400000 100000", 4), ("250000 100000", 2), ("50000 100000", 1), ("9900000 100000", 16)],
)
def test_quota(limit: str, expected: int, tmp_path: Path) -> None:
    """Whole CPUs of the quota, one at least, and never more than the affinity names (O01)."""
    assert expected == pod(tmp_path, f"0::/{POD}\n", {f"{POD}/cpu.max": limit + "\n"})


def test_affinity_is_narrower(tmp_path: Path) -> None:
    """A pod that is pinned to two CPUs has two, whatever its quota (O01)."""
    assert 2 == pod(tmp_path, "0::/\n", {"cpu.max": "800000 100000\n"}, affinity=2)


def test_limit_of_a_cgroup_above(tmp_path: Path) -> None:
    """The tightest limit on the way up counts: a pod's is its containers' too (O01)."""
    files = {f"{POD}/cpu.max": "max 100000\n", "kubepods/burstable/pod1/cpu.max": "300000 100000\n"}
    assert 3 == pod(tmp_path, f"0::/{POD}\n", files)


def test_only_the_own_cgroup_is_mounted(tmp_path: Path) -> None:
    """Within a container the path may name a place that is not mounted: the root is its own cgroup then (O01)."""
    assert 2 == pod(tmp_path, f"0::/../../{POD}\n", {"cpu.max": "200000 100000\n"})


@pytest.mark.parametrize(("quota", "expected"), [("-1", 16), ("150000", 1), ("600000", 6)])
def test_version_1(quota: str, expected: int, tmp_path: Path) -> None:
    """Older hosts keep quota and period in files of their own (O01)."""
    files = {f"cpu/{POD}/cpu.cfs_quota_us": quota + "\n", f"cpu/{POD}/cpu.cfs_period_us": "100000\n"}
    assert expected == pod(tmp_path, f"4:memory:/x\n1:cpu,cpuacct:/{POD}\n", files)


@pytest.mark.parametrize(("asked", "expected"), [(0, 4), (1, 1), (4, 4), (16, 4)])
def test_threads(asked: int, expected: int) -> None:
    """So many as asked for, with 0 as many as there are CPUs, and never more (O01)."""
    assert expected == threads(asked, cpus=4)


def test_no_cgroups(tmp_path: Path) -> None:
    """Where there are none the affinity decides."""
    with patch.object(os, "sched_getaffinity", lambda _pid: {0, 1, 2}):
        assert 3 == usable(tmp_path / "none", tmp_path / "none")
