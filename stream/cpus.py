"""How many CPUs this process may use: what its affinity names, and no more than the quota of its cgroup allows.

The number of the host's cores says nothing in a pod: threads beyond the quota are throttled, all of them together.
"""

import logging
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

log = logging.getLogger("interest")

CGROUPS = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")


def threads(asked: int, cpus: int) -> int:
    """Threads of the model: as many as asked for, 0: as CPUs, and never more than there are."""
    if asked > cpus:
        log.warning("%d encoder threads asked for, %d taken: no more CPUs may be used here", asked, cpus)
    return min(asked, cpus) or cpus


def usable(cgroups: Path = CGROUPS, membership: Path = MEMBERSHIP) -> int:
    """CPUs that may be used at once, whole ones, at least 1.

    Args:
        cgroups: where cgroups are mounted, version 1 or 2.
        membership: names the process's own, as Linux's cgroups(7) describes it.
    """
    quota = min(_quotas(cgroups, membership), default=float("inf"))
    return int(max(1, min(_affinity(), quota)))


def _affinity() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _quotas(cgroups: Path, membership: Path) -> Iterator[float]:
    """CPUs allowed to the process's cgroup and to each above it, of those that are limited.

    In a container only its own may be mounted, in place of the root: then the path names nothing, and the root counts.
    """
    for line in membership.read_text().splitlines() if membership.is_file() else ():
        _, controllers, name = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        root = cgroups / "cpu" if controllers else cgroups
        own = PurePosixPath(name.lstrip("/"))
        for folder in (root / own, *(root / above for above in own.parents)):
            quota = _quota(folder)
            if quota is not None:
                yield quota


def _quota(folder: Path) -> float | None:
    """CPUs that a cgroup may use, of version 2 or 1; None: not limited, or not there."""
    if (folder / "cpu.max").is_file():
        limit, period = (folder / "cpu.max").read_text().split()
    elif (folder / "cpu.cfs_quota_us").is_file():
        limit, period = ((folder / f"cpu.cfs_{name}_us").read_text().strip() for name in ("quota", "period"))
    else:
        return None
    return None if limit in ("max", "-1") else int(limit) / int(period)
