"""What can happen to a running fleet: processes, broker and network. Each act returns when updates flow again; what it
brings down it brings back."""

import time
from collections.abc import Callable

from tests.faults.proxy import Held
from tests.faults.stage import Stage

Act = Callable[[Stage], None]
TAKEOVER_S = 5.0  # beyond the session
BEYOND_S = 2.0  # what lasts longer than a session lasts so much longer
LARGEST = 4


def kill_only_one(stage: Stage, *, lose_state: bool) -> None:
    """kill -9 of the only worker, its local state kept or deleted; it is started again."""
    stage.settle(stage.workers.kill(stage.any_pod(), lose_state=lose_state))


def kill_one(stage: Stage) -> None:
    """kill -9 of one of several; the others take over, in time, before it comes back."""
    pod = stage.any_pod()
    stage.workers.keep_down(pod)
    assert stage.settle(stage.workers.kill(pod)) <= stage.session_timeout_s + TAKEOVER_S
    stage.workers.bring_back(pod)


def terminate(stage: Stage) -> None:
    """SIGTERM under load: code 0; and where it is the only one, all it did is committed: the next repeats nothing."""
    pod = stage.any_pod()
    alone = len(stage.pods) == 1
    stage.workers.keep_down(pod)
    began = time.monotonic()
    assert 0 == stage.workers.terminate(pod)
    assert not alone or {} == stage.replayed()
    stage.workers.bring_back(pod)
    stage.settle(began)


def hang(stage: Stage) -> None:
    """SIGSTOP beyond the session, then SIGCONT. Where there are others, they have its partitions before it wakes."""
    alone = len(stage.pods) == 1
    pod = stage.any_pod()
    began = stage.workers.pause(pod)
    if alone:
        time.sleep(stage.session_timeout_s + BEYOND_S)
    else:
        stage.settle(began)
    over = time.monotonic()
    stage.workers.resume(pod)
    if alone:
        stage.settle(began, over)


def scale(stage: Stage) -> None:
    """Two workers if there is one, then four, and as many as before; those that leave finish what they have in hand."""
    before = list(stage.pods)
    for count in (2, LARGEST):
        if count > len(stage.pods):
            began = time.monotonic()
            for _ in range(count - len(stage.pods)):
                stage.add()
            stage.wait_shared()
            stage.settle(began)
    began = time.monotonic()
    codes = [stage.workers.remove(pod) for pod in stage.pods if pod not in before]
    assert {0} == set(codes), codes
    stage.wait_shared()
    stage.settle(began)


def go_back_and_forth(stage: Stage) -> None:
    """Each of two workers leaves and comes back: partitions go from one to the other and back, with their state."""
    for pod in list(stage.pods):
        stage.workers.keep_down(pod)
        began = time.monotonic()
        assert 0 == stage.workers.terminate(pod)
        stage.wait_shared()
        stage.settle(began)
        stage.workers.bring_back(pod)
        stage.wait_shared()


def kill_broker(stage: Stage) -> None:
    """kill -9 of the broker, which is started again on the same data."""
    began = time.monotonic()
    stage.broker.kill()
    stage.broker.start()
    stage.settle(began, time.monotonic())


def stop_broker(stage: Stage, *, seconds: float) -> None:
    """The broker ends in good order and is away for a while."""
    began = time.monotonic()
    stage.broker.stop()
    time.sleep(seconds)
    stage.broker.start()
    stage.settle(began, time.monotonic())


def pause_broker(stage: Stage) -> None:
    """The broker keeps its connections and answers nothing for longer than a session."""
    began = time.monotonic()
    stage.broker.pause()
    time.sleep(stage.session_timeout_s + BEYOND_S)
    stage.broker.resume()
    stage.settle(began, time.monotonic())


def cut(stage: Stage) -> None:
    """All connections are reset, at once taken again."""
    began = time.monotonic()
    stage.proxy.cut()
    stage.settle(began)


def refuse(stage: Stage) -> None:
    """All connections are reset, and none taken for as long as a session."""
    began = time.monotonic()
    stage.proxy.refuse()
    time.sleep(stage.session_timeout_s)
    stage.proxy.accept()
    stage.settle(began, time.monotonic())


def stall(stage: Stage, *, what: Held) -> None:
    """No bytes of a kind pass for longer than a session, with batches in flight. Workers beside the proxy take over."""
    others = any(not pod.proxied for pod in stage.pods)
    began = time.monotonic()
    stage.proxy.hold(what)
    if others:
        stage.settle(began)
    else:
        time.sleep(stage.session_timeout_s + BEYOND_S)
    over = time.monotonic()
    stage.proxy.release()
    if not others:
        stage.settle(began, over)


def rebalance_unacknowledged(stage: Stage) -> None:
    """Batches are published, their acknowledgements do not come, and a worker joins meanwhile: others keep some of
    their partitions and lose some. It leaves again."""
    began = time.monotonic()
    stage.proxy.hold("acknowledgements")
    pod = stage.add(proxied=False)
    time.sleep(2 * stage.session_timeout_s + BEYOND_S)  # its start, and what the group waits for who does not answer
    stage.proxy.release()
    stage.settle(began, time.monotonic())
    stage.wait_shared()
    assert 0 == stage.workers.remove(pod)


def slow(stage: Stage) -> None:
    """A slow network for two sessions: little passes, and late."""
    began = time.monotonic()
    stage.proxy.slow(bytes_s=100_000, delay_s=0.05)
    time.sleep(2 * stage.session_timeout_s)
    stage.proxy.slow()
    stage.settle(began, time.monotonic())
