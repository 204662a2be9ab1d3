"""The same work in a bare librdkafka loop, which promises nothing: what the machine gives when nothing is kept safe.

It takes thousands of events at once, keeps windows and model states in arrays in memory, makes one call of the model a
round for all users of the batch (the first new event of each, the second, …; whole windows where they were cut), and
sends one update a user and batch. No changelog, no state on disk, no check of what comes, no dead letters, no late
events; offsets are committed by librdkafka's timer, whatever became of the updates. A crash loses all of it.
"""

import signal
import sys
from typing import Any

import confluent_kafka as kafka
import numpy as np
import orjson
from numpy.typing import NDArray

from models import bundle as bundles
from stream.contract import EVENT_DTYPE, EVENT_TYPES, TEXT_MAX_TOKENS, hash32, hash64

BATCH = 8_192
USERS_MAX = 1 << 20  # memory that is not touched is not taken
WINDOW_MAX, WINDOW_KEEP, AGE_MAX_MS = 50, 25, 30 * 86_400_000
ROWS_MAX = 512  # of one call


class Users:
    """Windows and states of all users."""

    def __init__(self, folder: str) -> None:
        self._bundle = bundles.load(folder)
        self._session = bundles.session(self._bundle)
        self.place: dict[bytes, int] = {}
        self.version = np.zeros(USERS_MAX, np.int64)
        self.count = np.zeros(USERS_MAX, np.int64)
        self.windows = np.zeros((USERS_MAX, WINDOW_MAX), EVENT_DTYPE)
        self._states = bundles.zero_states(self._bundle.signature, USERS_MAX)
        self.vectors = np.zeros((USERS_MAX, self._bundle.dim), np.float32)
        self._tokens = np.zeros((0, TEXT_MAX_TOKENS), np.uint32)

    def take(self, users: NDArray[np.int64], events: NDArray[np.void]) -> None:
        """Append events, one of each user at most, and bring their vectors up to date."""
        oldest = self.windows["timestamp"][users, 0]
        aged = (self.count[users] > 0) & (oldest < events["timestamp"] - AGE_MAX_MS)
        for user, newest in zip(users[aged].tolist(), events["timestamp"][aged].tolist(), strict=True):
            held = self.windows["timestamp"][user, : self.count[user]]
            first = int(np.searchsorted(held, newest - AGE_MAX_MS // 2))
            self._cut(np.array([user]), first, int(self.count[user]))
        full = self.count[users] == WINDOW_MAX
        self._cut(users[full], WINDOW_MAX - WINDOW_KEEP + 1, WINDOW_MAX)
        self.windows[users, self.count[users]] = events
        self.count[users] += 1
        self.version[users] += 1
        again = full | aged
        for rows in _chunks(users[~again]):
            self._run(rows, np.ones(len(rows), np.int64))
        whole = users[again]
        for rows in _chunks(whole[np.argsort(self.count[whole])]):
            self._run(rows, self.count[rows])

    def _cut(self, users: NDArray[np.int64], first: int, end: int) -> None:
        """Events from `first` to `end` of these users' windows become their windows."""
        self.windows[users, : end - first] = self.windows[users, first:end]
        self.count[users] = end - first

    def _run(self, users: NDArray[np.int64], steps: NDArray[np.int64]) -> None:
        """The last `steps` events of each window, from the kept state where that is not the whole window."""
        begin = self.count[users] - steps
        at = np.minimum(begin[:, None] + np.arange(steps.max()), WINDOW_MAX - 1)
        inputs = self._bundle.features.inputs(
            self.windows[users[:, None], at],
            np.full(at.shape, -1, np.int32),
            self._tokens,
            steps.astype(np.int32),
            np.where(begin > 0, self.windows["timestamp"][users, begin - 1], -1),
        )
        states = {name: array[users] for name, array in self._states.items()}
        for array in states.values():
            array[begin == 0] = 0
        self.vectors[users], after = bundles.run(self._session, self._bundle.signature, inputs, states)
        for name, array in after.items():
            self._states[name][users] = array

    def update(self, key: bytes, user: int) -> bytes:
        """The user's update."""
        count = int(self.count[user])
        return orjson.dumps(
            {
                "user_id": key.decode(),
                "version": int(self.version[user]),
                "timestamp": int(self.windows["timestamp"][user, count - 1]),
                "model": self._bundle.version,
                "events": count,
                "vector": self.vectors[user],
            },
            option=orjson.OPT_SERIALIZE_NUMPY,
        )


def _chunks(users: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    return [users[first : first + ROWS_MAX] for first in range(0, len(users), ROWS_MAX)]


def batch(users: Users, messages: list[Any]) -> list[tuple[bytes, int, bytes]]:
    """The updates that the messages lead to: key, partition, value."""
    rows = []
    touched: dict[bytes, int] = {}  # partition, of each user in the batch
    place = users.place
    order = []
    for message in messages:
        event = orjson.loads(message.value())
        key = message.key()
        touched[key] = message.partition()
        order.append(place.setdefault(key, len(place)))
        category = event.get("category_id")
        kind = EVENT_TYPES[event["type"]]
        rows.append(
            (event["timestamp"], hash64(event["item_id"]), 0, hash32(category) if category else 0, kind, 0, 0, 0)
        )
    events, user = np.array(rows, EVENT_DTYPE), np.array(order)
    by_user = np.argsort(user, kind="stable")
    first = np.flatnonzero(np.diff(user[by_user], prepend=-1))
    held = np.diff(first, append=len(user))
    for number in range(int(held.max())):
        now = by_user[first[held > number] + number]
        users.take(user[now], events[now])
    return [(key, partition, users.update(key, place[key])) for key, partition in touched.items()]


def main(broker: str, topic: str, update_topic: str, folder: str) -> None:
    """Work until SIGTERM."""
    running = [True]
    signal.signal(signal.SIGTERM, lambda *_: running.clear())
    users = Users(folder)
    consumer = kafka.Consumer(
        {
            "bootstrap.servers": broker,
            "group.id": topic,
            "auto.offset.reset": "earliest",
            "auto.commit.interval.ms": 1_000,
            "queued.min.messages": 4 * BATCH,
        }
    )
    producer = kafka.Producer(
        {
            "bootstrap.servers": broker,
            "acks": "all",
            "linger.ms": 5,
            "batch.size": 1 << 20,
            "queue.buffering.max.messages": 1 << 20,
        }
    )
    consumer.subscribe([topic], on_assign=lambda *_: print("ready", flush=True))  # noqa: T201  # for the runner
    while running:
        messages = consumer.consume(BATCH, timeout=0.05)
        if messages:
            for key, partition, update in batch(users, messages):
                producer.produce(update_topic, update, key, partition)
        producer.poll(0)
    producer.flush(30)
    consumer.close()


if __name__ == "__main__":
    main(*sys.argv[1:5])
