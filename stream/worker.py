"""The worker, wired: settings, checks, bundle, Faust app, table and agent become one process."""

import asyncio
import logging
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import cached_property
from typing import Any, cast

import faust
import mode
import uvloop
from mode.utils.queues import FlowControlEvent

from models import bundle as bundles
from stream import cpus, growth, health, observe, topics
from stream.access import Need, refusal, worker_needs
from stream.agent import BatchAgent
from stream.connect import addresses
from stream.consumer import Consumer
from stream.datafolder import claim
from stream.encode import Encoder
from stream.ending import EXIT_FAILURE, end
from stream.errors import UsageError
from stream.localstate import Changelog
from stream.metrics import Metrics, Totals
from stream.producer import Producer
from stream.progress import JOINING, Phase, Progress
from stream.rollout import Rollout
from stream.security import Cluster
from stream.serving import Serving, Shadow
from stream.settings import TABLE, Settings
from stream.table import SequenceTable
from stream.transport import BatchSchema
from stream.update import UpdateFormat
from stream.value import source_hash
from stream.watchdog import Watchdog

log = logging.getLogger("interest")

REPORT_S = 10.0
REPEAT_S = 10.0
#: Of lines of the clients: every first member of a group meets the first once, the others are told better by us.
TOLD = (
    "GroupCoordinatorNotAvailable",
    "in the clear",
    "Not authorized to read",
    "unauthorized topics",
    "is not authorized for this client",
)
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
            growth.watch(consumer.cluster, self.partitions, consumer.subscribed)
            growth.watch(cast(Producer, self.producer).cluster, self.partitions)
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
    set_up_logging(settings.log_level)
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
        serving, rollouts = models(settings, totals)
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
        for task in (*observing, agent.tend(), _report(totals)):
            app.add_future(task)
        for rollout in rollouts if settings.model_check_s else ():
            app.add_future(rollout.follow(settings.model_check_s, agent.serve))
        process = Process(app, progress, loop=loop, quiet=True, override_logging=False, redirect_stdouts=False)
        process.spinner = None  # would write to the terminal
        progress.begin(JOINING, time.monotonic())
        beside.enter_context(Watchdog(progress, settings.stall_s, settings.stall_exit_s, settings.drain_s))
        process.execute_from_commandline()


def models(settings: Settings, totals: Totals) -> tuple[Serving, list[Rollout]]:
    """The models that the settings name, proved and warm, and what follows their places."""
    threads = cpus.threads(settings.encoder_threads, cpus.usable())

    def prepare(bundle: bundles.Bundle) -> Encoder:
        session = bundles.session(bundle, provider=settings.provider, threads=threads)
        deviation = bundles.verify(bundle, session)
        log.info("model %s on %s, golden vectors within %.1e", bundle.version, settings.provider, deviation)
        encoder = Encoder(bundle, session, settings.state_cache_users)
        encoder.warm(settings.window_max_events)
        return encoder

    cache = settings.data_dir / "models"
    assert settings.model is not None
    first = Rollout(settings.model, cache / "serving", prepare, totals, "serving")
    if settings.shadow_model is None:
        return Serving(first.start(), totals), [first]
    second = Rollout(settings.shadow_model, cache / "shadow", prepare, totals, "shadow")
    form = UpdateFormat(settings.update_format, settings.update_categories)
    shadow = Shadow(second.start(), settings.shadow_share, form, totals)
    return Serving(first.start(), totals, shadow), [first, second]


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


def set_up_logging(level: str) -> None:
    """Our lines at `level`, from warnings on those of the libraries and of Faust's services; to standard error."""
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.DEBUG if level == "debug" else logging.WARNING,
        format="%(asctime)s %(levelname)s %(message)s",
        force=True,
    )
    log.setLevel(level.upper())
    for client in ("aiokafka", "kafka"):
        # At debug they log each request, that with the password too, and kafka-python what it was given.
        logging.getLogger(client).setLevel(logging.INFO if level == "debug" else logging.WARNING)
    logging.getLogger().handlers[0].addFilter(_Sparse())


class _Sparse(logging.Filter):
    """What aiokafka repeats: it tries again without end, thousands of times a second when a broker is gone."""

    def __init__(self) -> None:
        super().__init__()
        self._last: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the line is new, or was last seen long enough ago."""
        if not record.name.startswith(("aiokafka", "kafka")):
            return True
        if any(text in record.getMessage() for text in TOLD):
            return False
        shown = self._last.get(record.msg, -REPEAT_S)
        if record.created - shown < REPEAT_S:
            return False
        self._last[record.msg] = record.created
        return True


async def _report(totals: Totals) -> None:
    """A line for every REPORT_S in which something happened."""
    reported = (0, 0)
    while True:
        await asyncio.sleep(REPORT_S)
        if (totals.records, totals.swept) == reported:
            continue
        log.info(
            "%d records, %.0f/s: %d accepted, %d late, %d duplicates, %d refused, %d applied before; %d updates; "
            "%d batches, %d steps, %d users advanced, %d run again; %d users idle for too long forgotten",
            totals.records,
            (totals.records - reported[0]) / REPORT_S,
            totals.accepted,
            totals.late,
            totals.duplicates,
            totals.refused,
            totals.applied_before,
            totals.updates,
            totals.batches,
            totals.steps,
            totals.advanced,
            totals.reruns,
            totals.swept,
        )
        reported = (totals.records, totals.swept)
