"""The faults of the short form: which workers there are, and what is done to them while the load goes on."""

import time
from dataclasses import dataclass
from functools import partial

from tests.faults import acts
from tests.faults.acts import Act
from tests.faults.stage import Stage

PAUSE_S = (0.3, 1.5)  # before an act, so that it falls anywhere


@dataclass(frozen=True)
class Scenario:
    """An act, done so many times to a fleet of workers by way of the proxy, and workers that go straight."""

    act: Act
    proxied: int = 1
    direct: int = 0
    times: int = 1

    def __call__(self, stage: Stage) -> None:
        for _ in range(self.proxied):
            stage.add()
        for _ in range(self.direct):
            stage.add(proxied=False)
        for _ in range(self.times):
            stage.wait_shared()
            time.sleep(stage.chance.uniform(*PAUSE_S))
            self.act(stage)
        stage.wait_shared()


SHORT_FORM = {
    "kill -9 of the only worker, state kept": Scenario(partial(acts.kill_only_one, lose_state=False), times=3),
    "kill -9 of the only worker, state deleted": Scenario(partial(acts.kill_only_one, lose_state=True), times=3),
    "kill -9 of one of two": Scenario(acts.kill_one, proxied=2),
    "kill -9 of one of three": Scenario(acts.kill_one, proxied=3),
    "SIGTERM of the only worker": Scenario(acts.terminate),
    "SIGSTOP beyond the session, the only worker": Scenario(acts.hang),
    "SIGSTOP beyond the session, one of two": Scenario(acts.hang, proxied=2),
    "scaled 1, 2, 4, 1": Scenario(acts.scale),
    "partitions go 1, 2, 1": Scenario(acts.go_back_and_forth, proxied=2),
    "broker killed -9": Scenario(acts.kill_broker, proxied=2),
    "broker stopped for 15 s": Scenario(partial(acts.stop_broker, seconds=15), proxied=2),
    "broker silent beyond the session": Scenario(acts.pause_broker, proxied=2),
    "connections cut": Scenario(acts.cut, proxied=2, times=2),
    "connections refused for a session": Scenario(acts.refuse, proxied=2),
    "network stalls": Scenario(partial(acts.stall, what="all")),
    "network of one of two stalls": Scenario(partial(acts.stall, what="all"), direct=1),
    "answers to one of two stall": Scenario(partial(acts.stall, what="answers"), direct=1),
    "rebalance before the acknowledgement": Scenario(acts.rebalance_unacknowledged, direct=1),
    "network slow": Scenario(acts.slow, direct=1),
}
