"""A client with a clock: publishes events evenly, reads what answers them, and says how long each answer took.

A process of its own with librdkafka, so that it costs little beside what it measures. Every event has a timestamp of
its own: what comes back with a user and a timestamp answers all of the user's events up to that one.
"""

import argparse
import gc
import json
import math
import time
from collections import deque
from pathlib import Path

import orjson
from confluent_kafka import Consumer, Producer, TopicPartition

#: librdkafka waits for whole milliseconds: events leave up to one after they are due, at 10,000 events/s ten together.
TICK_S = 0.001
IDLE_S = 0.01
ANSWER_S = 60.0
GROUP_MAX = 10_000


def main() -> None:
    """Run as told; prints a JSON object with the milliseconds of every event."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--broker", required=True)
    parser.add_argument("--events", required=True, help="topic to publish on")
    parser.add_argument("--answers", required=True, help="topic to read")
    parser.add_argument("--lines", required=True, type=Path, help="events without a timestamp, one a line")
    parser.add_argument("--first", required=True, type=int, help="number of the first event: line and timestamp")
    parser.add_argument(
        "--begin-ms", required=True, type=int, help="timestamp of event 0; the next ones 1 ms later each"
    )
    parser.add_argument("--rate", required=True, type=int, help="events a second")
    parser.add_argument("--warm", required=True, type=int, help="events that are not counted")
    parser.add_argument("--count", required=True, type=int, help="events that are")
    told = parser.parse_args()

    lines = told.lines.read_bytes().splitlines()
    numbers = range(told.first, told.first + told.warm + told.count)
    chosen = [lines[number % len(lines)] for number in numbers]
    users = [orjson.loads(line)["user_id"] for line in chosen]
    times = [told.begin_ms + number for number in numbers]
    values = [b'{"timestamp":%d,%s' % (ms, line[1:]) for ms, line in zip(times, chosen, strict=True)]

    producer = Producer({"bootstrap.servers": told.broker, "partitioner": "murmur2_random", **LOW_LATENCY_OUT})
    consumer = Consumer({"bootstrap.servers": told.broker, "group.id": "clock", **LOW_LATENCY_IN})
    partitions = consumer.list_topics(told.answers).topics[told.answers].partitions
    consumer.assign(
        [
            TopicPartition(
                told.answers, number, consumer.get_watermark_offsets(TopicPartition(told.answers, number))[1]
            )
            for number in partitions
        ]
    )
    producer.list_topics(told.events)
    gc.collect()
    gc.freeze()
    gc.disable()  # nothing here makes cycles

    waiting: dict[str, deque[int]] = {}
    handed: list[float] = []
    took: list[float] = [0.0] * len(users)
    open_events, total = len(users), len(users)
    began, cpu = time.perf_counter() + 0.1, time.process_time()
    deadline = began + total / told.rate + ANSWER_S
    while open_events:
        now = time.perf_counter()
        while (sent := len(handed)) < total and began + sent / told.rate <= now:
            waiting.setdefault(users[sent], deque()).append(sent)
            handed.append(time.perf_counter())
            producer.produce(told.events, values[sent], users[sent])
        producer.poll(0)
        left_s = began + sent / told.rate - time.perf_counter() if sent < total else IDLE_S
        first = consumer.poll(min(math.ceil(max(left_s, 0) / TICK_S + 1e-9) * TICK_S, IDLE_S))
        if first is None:
            if now > deadline:
                raise SystemExit(f"{open_events} of {total} events were not answered within {ANSWER_S:.0f} s")
            continue
        arrived = time.perf_counter()
        for message in [first, *consumer.consume(GROUP_MAX, 0)]:
            if message.error():
                raise SystemExit(f"expected an answer, got {message.error()}")
            value = message.value()
            if value is None:
                continue
            answer = orjson.loads(value)
            events = waiting.get(answer["user_id"])
            while events and times[events[0]] <= answer["timestamp"]:
                event = events.popleft()
                took[event] = arrived - handed[event]
                open_events -= 1
    late = sorted(at - began - number / told.rate for number, at in enumerate(handed))
    result = {
        "ms": [round(1000 * seconds, 3) for seconds in took[told.warm :]],
        "late_p99_ms": round(1000 * late[int(0.99 * len(late))], 3),
        "cpu": round((time.process_time() - cpu) / (time.perf_counter() - began), 3),
    }
    consumer.close()
    print(json.dumps(result))  # noqa: T201


LOW_LATENCY_OUT: dict[str, str | int | bool] = {"linger.ms": 1, "socket.nagle.disable": True}
LOW_LATENCY_IN: dict[str, str | int | bool] = {
    "enable.auto.commit": False,
    "auto.offset.reset": "error",
    "socket.nagle.disable": True,
}

if __name__ == "__main__":
    main()
