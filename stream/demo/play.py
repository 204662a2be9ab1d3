"""The demo while it runs: events go out at their pace, answers come in, and a view is told how it stands."""

import asyncio
import time
from collections.abc import Callable
from typing import Any, Final

import numpy as np
import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.errors import KafkaError

from stream.connect import require
from stream.deadletter import REASON
from stream.demo.measure import Awaited
from stream.demo.shop import FOLLOWED, Traffic
from stream.demo.state import Board
from stream.errors import BrokerError
from stream.settings import Settings

CLOSE_S: Final = 5.0
#: Further behind than this, the pace starts anew: what was missed is not made up in a burst.
BEHIND_MAX_S: Final = 0.5
APPEND_TIME: Final = 1  # Kafka's code for a record time that the broker gave


class Play:
    """One run, of `wanted` events at `rate` events/s; None for no end."""

    def __init__(self, settings: Settings, board: Board, traffic: Traffic, rate: float, wanted: int | None) -> None:
        self._settings = settings
        self._board = board
        self._measure = board.measure
        self._traffic = traffic
        self._rate = rate
        self._wanted = wanted
        self._failed: BaseException | None = None
        self._all_published = False
        self._heard_s = time.monotonic()  # when something came back, or nothing was missing

    async def run(self, look: Callable[[], None], every_s: float, stop: asyncio.Event) -> None:
        """Until `stop` is set, or all that was wanted is answered; `look` is called every so many seconds.

        Raises:
            BrokerError: the broker refuses, or does not answer.
            Whatever `look` raises.
        """
        cluster = self._settings.cluster
        options = {"bootstrap_servers": require(cluster), **cluster.security.aiokafka()}
        topics = (self._settings.update_topic, self._settings.deadletter_topic)
        consumer = AIOKafkaConsumer(*topics, auto_offset_reset="earliest", **options)
        producer = AIOKafkaProducer(acks="all", enable_idempotence=True, **options)
        tasks: list[asyncio.Task[None]] = []
        try:
            await consumer.start()
            await producer.start()
            tasks = [asyncio.create_task(self._publish(producer)), asyncio.create_task(self._consume(consumer))]
            self._heard_s = time.monotonic()
            while not stop.is_set() and not self._is_finished():
                await _wait(stop, every_s)
                self._check(tasks)
                look()
        except KafkaError as error:
            raise BrokerError(f"broker {self._settings.broker}: {error or type(error).__name__}") from error
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await _close(producer.stop(), consumer.stop())

    def _is_finished(self) -> bool:
        return self._all_published and self._measure.lag == 0

    def _check(self, tasks: list[asyncio.Task[None]]) -> None:
        for task in tasks:
            if task.done():
                task.result()
        if self._failed is not None:
            raise self._failed

    @property
    def silent_s(self) -> float:
        """Seconds since an answer came or none was missing."""
        if self._measure.lag == 0:
            self._heard_s = time.monotonic()
        return time.monotonic() - self._heard_s

    async def _publish(self, producer: AIOKafkaProducer) -> None:
        """At an even pace; the user's events go out in the order in which they were measured."""
        topic = self._settings.event_topics[0]
        number, began_s = 0, time.monotonic()
        while self._wanted is None or self._measure.published < self._wanted:
            ahead_s = began_s + number / self._rate - time.monotonic()
            if ahead_s > 0:
                await asyncio.sleep(ahead_s)
            elif ahead_s < -BEHIND_MAX_S:
                number, began_s = 0, time.monotonic()
            number += 1
            record = self._traffic.next(time.time_ns() // 1_000_000)
            awaited = self._measure.publish(record)
            if record.event is not None and record.event["user_id"] == FOLLOWED:
                self._board.followed.did(record.event)
            sent = await producer.send(topic, record.value, key=record.key)
            sent.add_done_callback(lambda future, awaited=awaited: self._acknowledged(future, awaited))
        self._all_published = True

    def _acknowledged(self, future: "asyncio.Future[Any]", awaited: Awaited | None) -> None:
        if future.cancelled():
            return
        error = future.exception()
        if error is not None:
            self._failed = error
        elif awaited is not None:
            appended = future.result()
            # Without the broker's time there is nothing to measure from.
            if appended.timestamp_type == APPEND_TIME:
                self._measure.appended(awaited, appended.timestamp, time.monotonic())

    async def _consume(self, consumer: AIOKafkaConsumer) -> None:
        while True:
            for partition, records in (await consumer.getmany(timeout_ms=1000)).items():
                self._heard_s = now_s = time.monotonic()
                for record in records:
                    if partition.topic == self._settings.deadletter_topic:
                        self._measure.letter(dict(record.headers)[REASON].decode())
                    else:
                        self._update(record, now_s)

    def _update(self, record: Any, now_s: float) -> None:
        update = orjson.loads(record.value)
        user = update["user_id"]
        self._measure.update(user, update["version"], update["timestamp"], record.timestamp, now_s)
        if user == FOLLOWED and update["version"] >= self._board.followed.version:
            vector = np.array(update["vector"], np.float32)
            self._board.followed.moved(update["version"], update["events"], vector)
        if self._board.first_update_s is None:
            self._board.first_update_s = now_s


async def _wait(stop: asyncio.Event, seconds: float) -> None:
    try:
        await asyncio.wait_for(stop.wait(), seconds)
    except TimeoutError:
        return


async def _close(*closing: Any) -> None:
    """A broker that is gone keeps its clients no longer than 5 s."""
    done = asyncio.gather(*closing, return_exceptions=True)
    try:
        await asyncio.wait_for(done, CLOSE_S)
    except TimeoutError:
        return
