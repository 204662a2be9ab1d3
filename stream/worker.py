"""The worker, wired: settings, checks, bundle, Faust app, table and agent become one process."""

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import cached_property
from typing import Any, cast

import faust
import mode
import uvloop
from mode.utils.queues import FlowControlEvent

from stream import growth, health, logs, observe, topics
from stream.access import Need, refusal, worker_needs
from stream.agent import BatchAgent
from stream.connect import addresses
from stream.consumer import Consumer
from stream.datafolder import claim
from stream.ending import EXIT_FAILURE, end
from stream.errors import UsageError
from stream.localstate import Changelog
from stream.metrics import Metrics, Totals
from stream.producer import Producer
from stream.progress import JOINING, Phase, Progress
from stream.rollout import start_models
from stream.security import Cluster
from stream.serving import Serving
from stream.settings import TABLE, Settings
from stream.table import SequenceTable
from stream.transport import BatchSchema
from stream.value import source_hash
from stream.watchdog import Watchdog

log = logging.getLogger("interest")

METADATA_MAX_AGE_MS = 10_000
RECORD_BATCH_BYTES = 512 * 1024
STORES = {"rocksdb": "sequences-rocksdb://", "memory": "sequences-memory://"}


class Flow(FlowControlEvent):
    """Faust's, but what is resumed is not cleared.

    A recovery resumes the flow once more when standby partitions are being read already. What was handed over of a
    changelog by then would be gone, and the position past it: the copy lacks it, and whoever works on with it some day
    goes back behind what was done. What is stale is cleared when partitions are revoked.
    """

    def resume(self) -> None:
        self._suspend.clear()
        self._resume.set()


class App(faust.App):
    """Faust's app, which says when it is ready."""

    #: Whether partitions were shared out to this worker yet, be it none.
    has_joined = False
    #: Of each topic, at the start.
    partitions: Mapping[str, int]
    #: The brokers, and how they are reached.
    cluster: Cluster
    #: What the worker's user must be allowed.
    needs: Sequence[Need]

    def end_if_refused(self, error: Exception) -> None:
        """End the process with one line where an error of reading says that the user may not; Faust would not tell."""
        if refused := refusal(error, self.cluster, *(need for need in self.needs if need.operation == "Read")):
            end(EXIT_FAILURE, "%s", refused)

    @cached_property
    def flow_control(self) -> FlowControlEvent:
        """What stops and resumes Faust's queues; see `Flow`."""
        return Flow(loop=self.loop)

    def on_rebalance_end(self) -> None:
        super().on_rebalance_end()
        changelogs = self.tables.changelog_topics
        active = sorted(tp.partition for tp in self.assignor.assigned_actives() if tp.topic in changelogs)
        standby = sorted(tp.partition for tp in self.assignor.assigned_standbys() if tp.topic in changelogs)
        active = active if self.consumer.assignment() else []
        if not self.has_joined:
            self.has_joined = True
            consumer = cast(Consumer, self.consumer)
            growth.watch(consumer.cluster, self.partitions, self.end_if_refused, consumer.subscribed)
            growth.watch(cast(Producer, self.producer).cluster, self.partitions, self.end_if_refused)
        growth.check_table(self.table, active, self.partitions[self.table.changelog_topic_name])
        log.info("ready: partitions %s, standby %s", active, standby)

    @property
    def table(self) -> SequenceTable:
        """The one table."""
        return cast(SequenceTable, self.tables[TABLE])


class Process(faust.Worker):
    """Faust's worker process; a signal lets the batch in hand finish first."""

    def __init__(self, app: App, progress: Progress, **options: Any) -> None:
        super().__init__(app, **options)
        self._progress = progress

    async def stop(self) -> None:
        self._progress.enter(Phase.DRAINING, time.monotonic())
        consumer = cast(Consumer, self.app.consumer)
        if consumer.started and not consumer.closing and not self.crashed:
            log.info("stopping: the batch in hand is finished and committed first")
            await consumer.drain()
        await super().stop()


def run(settings: Settings) -> None:
    """Check what the worker needs, then work until a signal; ends the process by SystemExit.

    Raises:
        UsageError: a setting is missing.
        BundleError: a model is missing, broken, or does not reproduce its golden vectors.
        PlaceError: where a model is to come from cannot be reached.
        BrokerError: no broker answers.
        TopicError: topics are missing or their partition counts differ.
        InterestError: the health address cannot be taken, or the data folder not written, or it is another worker's.
    """
    logs.set_up(settings.log_level)
    if settings.model is None:
        raise UsageError("which model? set INTEREST_MODEL, or give --model FOLDER")
    progress, totals = Progress(time.monotonic(), "loading the model"), Totals()
    metrics = Metrics(totals, progress, settings.stall_s, provider=settings.provider)
    with ExitStack() as beside:
        # First in, last out: probes answer while the worker starts, and until it has drained.
        if settings.health_address is not None:
            where = beside.enter_context(
                health.serve(settings.health_address, progress, settings.stall_s, metrics.render)
            )
            log.info("probes and metrics on http://%s", where)
        beside.enter_context(claim(settings.data_dir))
        serving, rollouts = start_models(settings, totals)
        progress.begin("looking at the topics", time.monotonic())
        there = topics.check(settings)
        sources = {topic: source_hash(topic, there[topic].topic_id.bytes) for topic in settings.event_topics}
        loop = uvloop.new_event_loop()
        asyncio.set_event_loop(loop)
        changelog = Changelog.of(settings.cluster, there[settings.changelog_topic])
        partitions = {name: info.partitions for name, info in there.items()}
        totals.partitions = {topic: partitions[topic] for topic in sources}
        app, agent = build(settings, sources, partitions, changelog, serving)
        observing = observe.tick(progress, totals), observe.observe(app, progress, totals)
        for task in (*observing, agent.tend(), logs.report(totals)):
            app.add_future(task)
        for rollout in rollouts if settings.model_check_s else ():
            app.add_future(rollout.follow(settings.model_check_s, agent.serve))
        process = Process(app, progress, loop=loop, quiet=True, override_logging=False, redirect_stdouts=False)
        process.spinner = None  # would write to the terminal
        progress.begin(JOINING, time.monotonic())
        beside.enter_context(Watchdog(progress, settings.stall_s, settings.stall_exit_s, settings.drain_s))
        process.execute_from_commandline()


def build(
    settings: Settings, sources: dict[str, int], partitions: Mapping[str, int], changelog: Changelog, serving: Serving
) -> tuple[App, BatchAgent]:
    """The Faust app with its table, and the agent.

    Args:
        settings: of the worker.
        sources: hashes of the event topics (stream.value).
        partitions: of each topic.
        changelog: what local copies are judged by.
        serving: the models.
    """
    count = partitions[settings.changelog_topic]
    cluster = settings.cluster
    hosts = ";".join(f"batchkafka://{host}:{port}" for host, port in addresses(settings.broker))
    app = App(
        settings.app_id,
        broker=hosts,
        broker_credentials=cluster.security.faust(),
        store=STORES[settings.store],
        datadir=settings.data_dir,
        autodiscover=False,
        web_enabled=False,
        topic_allow_declare=False,  # `interest topics create` makes them as they must be
        topic_disable_leader=True,
        broker_session_timeout=settings.session_timeout_s,
        broker_heartbeat_interval=settings.heartbeat_s,
        # A broker waits so long for members to come back, and a first join as long for others.
        broker_rebalance_timeout=settings.session_timeout_s,
        broker_request_timeout=max(40.0, settings.session_timeout_s),
        broker_commit_interval=settings.commit_interval_s,
        consumer_auto_offset_reset="earliest",
        consumer_metadata_max_age_ms=METADATA_MAX_AGE_MS,
        producer_metadata_max_age_ms=METADATA_MAX_AGE_MS,
        consumer_group_instance_id=settings.instance_id,
        producer_linger_ms=0,  # a batch is all that waits; there is nothing to wait for
        producer_max_batch_size=RECORD_BATCH_BYTES,
        stream_recovery_delay=0.0,
        table_standby_replicas=settings.standby_replicas,
        Table=SequenceTable,
    )
    table = cast(SequenceTable, app.Table(TABLE, partitions=count, changelog=changelog))
    agent = BatchAgent(
        settings,
        sources,
        serving,
        table,
        consumer=lambda: cast(Consumer, app.consumer),
        producer=lambda: cast(Producer, app.producer),
    )

    @app.agent(
        app.topic(*settings.event_topics, partitions=count, schema=BatchSchema()),
        name="interest",
        supervisor_strategy=mode.CrashingSupervisor,
    )
    async def work(stream: Any) -> None:
        await agent.run()  # the records wait in the consumer; the stream stays empty

    app.partitions = partitions
    app.cluster, app.needs = cluster, worker_needs(settings)
    return app, agent
