"""The same work in plain Faust, as its guide teaches: one agent, one event at a time, a table, topic.send, on uvloop.

Each event is decoded from JSON and appended to the user's window in a RocksDB table (changelogged, the window cut as
ours is); the model makes one step from the state kept in memory, or runs the whole window where there is none; the
update goes out as JSON. No dead letters, no late events, no duplicates: it does a little less than the worker.
"""

import sys
from typing import Any

import faust
import mode.loop
import numpy as np

from models import bundle as bundles
from stream.contract import EVENT_DTYPE, EVENT_TYPES, TEXT_MAX_TOKENS, hash32, hash64


def build(broker: str, topic: str, update_topic: str, folder: str, data_dir: str, partitions: int) -> faust.App:
    """The app; `folder` is the model bundle."""
    mode.loop.use("uvloop")
    app = faust.App(
        topic,
        broker=f"kafka://{broker}",
        store="rocksdb://",
        datadir=data_dir,
        topic_partitions=partitions,
        web_enabled=False,
        topic_disable_leader=True,
        topic_replication_factor=1,
        autodiscover=False,
        consumer_auto_offset_reset="earliest",
        table_standby_replicas=0,
    )
    events = app.topic(topic, key_type=bytes, value_serializer="json")
    updates = app.topic(update_topic, key_type=bytes, value_serializer="json")
    windows: Any = app.Table("windows", default=list, partitions=partitions, key_type=bytes)

    bundle = bundles.load(folder)
    session = bundles.session(bundle)
    tokens = np.zeros((0, TEXT_MAX_TOKENS), np.uint32)
    states: dict[bytes, dict[str, Any]] = {}

    def encode(user: bytes, window: list[list[Any]]) -> Any:
        kept = states.get(user)
        steps = window[-1:] if kept is not None and len(window) > 1 else window
        rows = [(t, item, 0, category, kind, 0, 0, 0) for t, item, category, kind in steps]
        before = window[-len(steps) - 1][0] if len(steps) < len(window) else -1
        inputs = bundle.features.inputs(
            np.array([rows], EVENT_DTYPE),
            np.full((1, len(steps)), -1, np.int32),
            tokens,
            np.array([len(steps)], np.int32),
            np.array([before], np.int64),
        )
        state = kept if kept is not None and len(steps) < len(window) else bundles.zero_states(bundle.signature, 1)
        vector, after = bundles.run(session, bundle.signature, inputs, state)
        states[user] = after
        return vector[0]

    @app.agent(events)
    async def work(stream: Any) -> None:
        print("ready", flush=True)  # noqa: T201  # the runner waits for it
        async for event in stream.events():
            user, value = event.key, event.value
            window = windows[user]
            category = value.get("category_id")
            window.append(
                [
                    value["timestamp"],
                    hash64(value["item_id"]),
                    hash32(category) if category else 0,
                    EVENT_TYPES[value["type"]],
                ]
            )
            if len(window) > 50:
                del window[:-25]
                states.pop(user, None)
            windows[user] = window
            vector = encode(user, window)
            await updates.send(
                key=user,
                value={
                    "user_id": value["user_id"],
                    "version": len(window),
                    "timestamp": value["timestamp"],
                    "model": bundle.version,
                    "events": len(window),
                    "vector": vector.tolist(),
                },
            )

    return app


if __name__ == "__main__":
    broker, topic, update_topic, folder, data_dir, partitions = sys.argv[1:]
    app = build(broker, topic, update_topic, folder, data_dir, int(partitions))
    faust.Worker(app, loglevel="error", quiet=True, redirect_stdouts=False).execute_from_commandline()
