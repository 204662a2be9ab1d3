"""Where faults happen: a broker behind a proxy, workers under a supervisor, a load, someone who watches updates."""

import random
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults import events
from tests.faults.broker import FaultyBroker
from tests.faults.load import Load
from tests.faults.outcome import Outcome, read, read_outcome
from tests.faults.proxy import Proxy
from tests.faults.supervisor import Pod, Supervisor
from tests.faults.takeover import Takeover
from tests.integration.conftest import Names
from tests.integration.workers import Topics, create_topics, wait_for
from tests.reference import Model, Rules, read_value

PARTITIONS = 4
DRAIN_S = 180.0
SHARED_S = 90.0
RATE = 1000.0
#: Windows so small that many are cut within a short run.
RULES = Rules(max_events=20, keep_events=10)
#: Small batches and frequent commits, so that a fault falls between any two steps of the work; a worker that stands
#: still is replaced within the time that a scenario waits.
SETTINGS: dict[str, object] = {
    "window_max_events": RULES.max_events,
    "window_keep_events": RULES.keep_events,
    "batch_max_events": 500,
    "commit_interval_s": 0.2,
    "stall_s": 15,
    "stall_exit_s": 40,
}


@dataclass(frozen=True)
class Ground:
    """What all runs share: one broker, its proxy, one model and one log of events."""

    folder: Path
    broker: FaultyBroker
    proxy: Proxy
    model: Model
    log: list[events.Event]

    def mend(self) -> None:
        """Broker and proxy as they were, whatever a scenario left."""
        self.proxy.mend()
        self.broker.mend()


@contextmanager
def open_ground(folder: Path, seed: int = 0) -> Iterator[Ground]:
    """Make all that is shared, for as long as the context lasts."""
    log = events.log(seed)
    with Proxy() as proxy, FaultyBroker(folder / "broker", proxy) as broker:
        yield Ground(folder, broker, proxy, Model(events.bundle(folder / "bundle", log)), log)


@dataclass
class Report:
    """What came of a run."""

    outcome: Outcome
    takeovers_s: list[float]  # of each fault
    exits: Counter[int]  # exit codes of workers; below 0: the signal that ended one
    starts: int  # of workers
    peak_bytes: int  # of the largest worker


@dataclass
class Stage:
    """One run on topics of its own. `workers` go through the proxy; load and watching go straight to the broker."""

    broker: FaultyBroker
    proxy: Proxy
    names: Names
    workers: Supervisor
    load: Load
    takeover: Takeover
    session_timeout_s: float
    chance: random.Random
    takeovers_s: list[float] = field(default_factory=list)

    @property
    def pods(self) -> list[Pod]:
        """The workers that are meant to run."""
        return [pod for pod in self.workers.pods if pod.wanted]

    def any_pod(self) -> Pod:
        """One of them that works on partitions."""
        return self.chance.choice([pod for pod in self.pods if pod.partitions()])

    def add(self, *, proxied: bool = True, **settings: object) -> Pod:
        """A worker more, by way of the proxy or straight to the broker."""
        broker = self.broker.proxied if proxied else self.broker.address
        return self.workers.add(proxied=proxied, broker=broker, **settings)

    def wait_shared(self) -> None:
        """Return once all workers are ready, share all partitions, and updates flow.

        One may be without: Faust lets partitions stay where they are, as long as none has over its share, rounded up.
        """
        wait_for(self._is_shared, SHARED_S)
        self.takeover.wait_flowing(time.monotonic() - 1)

    def settle(self, began: float, over: float | None = None) -> float:
        """Wait until updates flow again after a fault, and note how long that took (takeover.Takeover.seconds)."""
        self.takeover.wait_flowing(began if over is None else over)
        seconds = self.takeover.seconds(began, over)
        self.takeovers_s.append(seconds)
        return seconds

    def replayed(self) -> dict[int, tuple[int, int]]:
        """Where the next worker would begin before an event that is applied: by partition, both offsets."""
        with Topics(self.names) as topics:
            committed = topics.committed()
        applied: dict[int, int] = {}
        for record in read(self.names.broker, self.names.changelog_topic):
            positions = [offset for _, offset in read_value(record.value).positions]
            applied[record.partition] = max(applied.get(record.partition, -1), *positions)
        return {p: (committed[p], offset) for p, offset in applied.items() if committed[p] <= offset}

    def _is_shared(self) -> bool:
        shares = [number for pod in self.pods for number in pod.partitions()]
        return all(pod.ready for pod in self.pods) and sorted(shares) == list(range(PARTITIONS))


def run(
    ground: Ground,
    scenario: Callable[[Stage], None],
    *,
    rate: float = RATE,
    seed: int = 0,
    session_timeout_s: float = 3.0,
    **settings: object,
) -> Report:
    """Play one scenario on new topics, with `rate` events a second and these settings of the workers.

    Raises:
        AssertionError: what the scenario holds does not hold, or updates did not flow again within 120 s. Whether
            something was lost or counted twice is in the report.
    """
    tag = uuid.uuid4().hex[:8]
    names = Names(ground.broker.address, f"app-{tag}", f"events-{tag}", f"updates-{tag}", f"dead-{tag}")
    create_topics(names, PARTITIONS)
    session = {"session_timeout_s": session_timeout_s, "heartbeat_s": min(2.0, session_timeout_s / 3)}
    folder = ground.folder / tag
    folder.mkdir()
    records = events.records(ground.log, seed)
    try:
        with (
            Supervisor(names, ground.model.bundle.folder, folder, **{**SETTINGS, **session, **settings}) as workers,
            Takeover(names.broker, names.update_topic, PARTITIONS) as takeover,
            Load(names.broker, names.event_topic, PARTITIONS, records, rate) as load,
        ):
            stage = Stage(
                ground.broker, ground.proxy, names, workers, load, takeover, session_timeout_s, random.Random(seed)
            )
            scenario(stage)
            load.stop()
            return _finish(ground, stage)
    finally:
        ground.mend()


def _finish(ground: Ground, stage: Stage) -> Report:
    """Let the workers work off what is left, end them, and compare."""
    workers = stage.workers
    with Topics(stage.names) as topics:
        wait_for(lambda: topics.lag() == 0, DRAIN_S)
    for pod in workers.pods:
        if pod.wanted:
            workers.remove(pod)
    outcome = read_outcome(stage.names, ground.model, RULES)
    if not outcome.exact:
        outcome.problems += [f"pod {pod.name} said:\n{pod.said}" for pod in workers.pods]
    peak = max(pod.peak_bytes for pod in workers.pods)
    starts = sum(len(pod.workers) for pod in workers.pods)
    return Report(outcome, stage.takeovers_s, workers.exits, starts, peak)
