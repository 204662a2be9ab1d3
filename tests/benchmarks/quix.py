"""The same work in Quix Streams, as its guide teaches: a StreamingDataFrame, stateful apply, a changelogged store.

Each event is decoded from JSON and appended to the user's window in Quix's state (RocksDB, with a changelog topic; the
window cut as ours is); the model makes one step from the state kept in memory, or runs the whole window where there is
none; the update goes out as JSON. At least once, offsets committed with each checkpoint. Tuned as its configuration
page says: a checkpoint every 5 s writes each user's state once, larger producer batches, no wait for the poll. No dead
letters, no late events, no duplicates: it does a little less than the worker.
"""

import sys
from typing import Any

import numpy as np
from quixstreams import Application, State
from quixstreams.models import TopicConfig

from models import bundle as bundles
from stream.contract import EVENT_DTYPE, EVENT_TYPES, TEXT_MAX_TOKENS, hash32, hash64


def build(broker: str, topic: str, update_topic: str, folder: str, data_dir: str, partitions: int) -> Application:
    """The app; `folder` is the model bundle."""
    app = Application(
        broker_address=broker,
        consumer_group=topic,
        auto_offset_reset="earliest",
        state_dir=data_dir,
        processing_guarantee="at-least-once",
        use_changelog_topics=True,
        commit_interval=5.0,
        producer_extra_config={"linger.ms": 50, "batch.size": 1 << 20, "acks": "all"},
        loglevel="ERROR",
    )
    here = TopicConfig(num_partitions=partitions, replication_factor=1)
    events = app.topic(topic, key_deserializer="bytes", value_deserializer="json", config=here)
    updates = app.topic(update_topic, key_serializer="bytes", value_serializer="json", config=here)

    bundle = bundles.load(folder)
    session = bundles.session(bundle)
    tokens = np.zeros((0, TEXT_MAX_TOKENS), np.uint32)
    states: dict[bytes, dict[str, Any]] = {}
    waiting = ["ready"]

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

    def work(value: dict[str, Any], user: bytes, _timestamp: int, _headers: Any, state: State) -> dict[str, Any]:
        while waiting:
            print(waiting.pop(), flush=True)  # noqa: T201  # the runner waits for it
        window: list[list[Any]] = state.get("window", [])
        category = value.get("category_id")
        item = hash64(value["item_id"])
        window.append([value["timestamp"], item, hash32(category) if category else 0, EVENT_TYPES[value["type"]]])
        if len(window) > 50:
            del window[:-25]
            states.pop(user, None)
        state.set("window", window)
        vector = encode(user, window)
        return {
            "user_id": value["user_id"],
            "version": len(window),
            "timestamp": value["timestamp"],
            "model": bundle.version,
            "events": len(window),
            "vector": vector.tolist(),
        }

    app.dataframe(events).apply(work, stateful=True, metadata=True).to_topic(updates)
    return app


if __name__ == "__main__":
    broker, topic, update_topic, folder, data_dir, partitions = sys.argv[1:]
    build(broker, topic, update_topic, folder, data_dir, int(partitions)).run()
