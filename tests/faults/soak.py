"""Faults of all kinds, one after the other, for as long as told, on one fleet that works all the while."""

import time
from collections.abc import Callable
from functools import partial

from tests.faults import acts
from tests.faults.acts import Act
from tests.faults.stage import Ground, Report, Stage, run
from tests.faults.table import Row, exits

RATE = 300.0
SESSION_S = 6.0
PAUSE_S = (1.0, 6.0)
PROXIED, DIRECT = 2, 1

ACTS: dict[str, Act] = {
    "kill -9 of one of three": acts.kill_one,
    "kill -9 of one, state kept": partial(acts.kill_only_one, lose_state=False),
    "kill -9 of one, state deleted": partial(acts.kill_only_one, lose_state=True),
    "SIGTERM": acts.terminate,
    "SIGSTOP beyond the session": acts.hang,
    "scaled to 4 and back": acts.scale,
    "each leaves and comes back": acts.go_back_and_forth,
    "broker killed -9": acts.kill_broker,
    "broker stopped for 60 s": partial(acts.stop_broker, seconds=60),
    "broker silent beyond the session": acts.pause_broker,
    "connections cut": acts.cut,
    "connections refused for a session": acts.refuse,
    "network stalls": partial(acts.stall, what="all"),
    "answers stall": partial(acts.stall, what="answers"),
    "rebalance before the acknowledgement": acts.rebalance_unacknowledged,
    "network slow": acts.slow,
}


def soak(ground: Ground, seconds: float, seed: int, say: Callable[[str], None]) -> tuple[list[Row], Report]:
    """Two workers by way of the proxy, one that goes straight and keeps its state in memory; every kind of fault in
    random order, then all again, until the time is over.

    Returns:
        what each kind of fault cost, and what came of the whole.

    Raises:
        AssertionError: as `run`.
    """
    rows = {name: Row(name) for name in ACTS}

    def scenario(stage: Stage) -> None:
        began = time.monotonic()
        for _ in range(PROXIED):
            stage.add()
        for _ in range(DIRECT):
            stage.add(proxied=False, store="memory")
        stage.wait_shared()
        while True:
            for name in stage.chance.sample(list(ACTS), len(ACTS)):
                time.sleep(stage.chance.uniform(*PAUSE_S))
                if time.monotonic() - began > seconds:
                    return
                done = len(stage.takeovers_s)
                ACTS[name](stage)
                stage.wait_shared()
                away = stage.takeovers_s[done:]
                rows[name].takeovers_s += away
                took = ", ".join(f"{s:.1f}" for s in away)
                ended = exits(stage.workers.exits) or "none"
                passed = f"{time.monotonic() - began:4.0f} s, {stage.load.acknowledged:,} events"
                say(f"{passed}: {name}: {took} s; workers that ended so far: {ended}")

    report = run(ground, scenario, rate=RATE, seed=seed, session_timeout_s=SESSION_S)
    return [row for row in rows.values() if row.takeovers_s], report
