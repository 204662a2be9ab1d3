"""The Kafka Streams peer: built by Maven once, and given the model's catalog as a text that Java reads without npz."""

import hashlib
import os
import shutil
import subprocess
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from models import bundle as bundles
from models.bundle import Bundle
from stream.contract import EVENT_DTYPE, EVENT_TYPES, TEXT_MAX_TOKENS, amount_code, hash32, hash64
from stream.errors import InterestError, UsageError
from stream.jars import find_java
from tests.benchmarks.load import Event

SOURCES = Path(__file__).with_name("kafka_streams")
WINDOW_MAX_EVENTS, WINDOW_KEEP_EVENTS = 50, 25
OPTIONS = ("-Xmx1g", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn")


def command(
    broker: str, topic: str, update_topic: str, bundle_folder: str, data_dir: str, partitions: int, guarantee: str
) -> list[str]:
    """The call that runs the peer, built first where it is not; it prints `ready` when it works.

    `guarantee` is at_least_once or exactly_once_v2. The consumer group is `topic`.

    Raises:
        InterestError: Java or Maven is missing, or the build fails.
    """
    java, jars = find_java(), build()
    given = Path(data_dir) / "catalog"
    write_catalog(bundles.load(bundle_folder), given)
    call = [java, *OPTIONS, "-cp", f"{jars}/*", "Peer", broker, topic, update_topic]
    return [*call, str(given), str(Path(data_dir) / "state"), str(partitions), guarantee]


def build() -> Path:
    """The folder of the peer's jar and those that it needs; kept by what pom and sources hold."""
    digest = hashlib.sha256()
    for file in sorted(path for path in SOURCES.rglob("*") if path.suffix in (".xml", ".java")):
        digest.update(b"%s\0%s\0" % (file.relative_to(SOURCES).as_posix().encode(), file.read_bytes()))
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "interest-stream"
    jars = cache / f"kafka-streams-peer-{digest.hexdigest()[:16]}"
    if jars.is_dir():
        return jars
    maven = shutil.which("mvn")
    if maven is None:
        raise UsageError("Maven (mvn) is needed once, to build the Kafka Streams peer, and was not found; install it")
    cache.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f".{jars.name}-", dir=cache) as folder:
        work = shutil.copytree(SOURCES, Path(folder) / "peer", ignore=shutil.ignore_patterns("target"))
        lib = work / "target" / "lib"
        goals = ["package", "dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={lib}"]
        answer = subprocess.run(
            [maven, "-q", "-B", "-ntp", "-Dstyle.color=never", "-f", str(work / "pom.xml"), *goals],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        built = work / "target" / "peer.jar"
        if answer.returncode != 0 or not built.exists() or not lib.is_dir():
            said = [line for line in (answer.stdout + answer.stderr).splitlines() if line.strip()]
            raise InterestError(
                f"Maven could not build the Kafka Streams peer (exit code {answer.returncode}): "
                f"{said[0] if said else 'it said nothing'}"
            )
        built.rename(lib / "peer.jar")
        lib.rename(jars)
    return jars


def write_catalog(bundle: Bundle, folder: Path) -> None:
    """`catalog.tsv`, what the model knows by row, and `encoder.onnx`, in `folder`, which is made."""
    catalog = bundle.catalog
    lines: list[tuple[object, ...]] = [("model", bundle.version), ("dim", bundle.dim), ("text", bundle.text_width)]
    lines += [("input", name) for name in bundle.inputs]
    lines += [("state", state.name, state.width) for state in bundle.states]
    lines += [("type", name) for name in bundle.event_types]
    lines += [("category", name, row) for row, name in enumerate(catalog.category_ids.tolist()) if row]
    items = zip(catalog.item_ids.tolist(), catalog.item_category.tolist(), strict=True)
    lines += [("item", name, row, category) for row, (name, category) in enumerate(items) if row]
    if any(mark in str(cell) for line in lines for cell in line for mark in "\t\r\n"):
        raise InterestError("the Kafka Streams peer takes ids without tabs and line breaks, the catalog has one")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "catalog.tsv").write_text("".join("\t".join(map(str, line)) + "\n" for line in lines), "utf-8")
    (folder / "encoder.onnx").write_bytes(bundle.encoder)


def deviation(bundle: Bundle, events: Iterable[Event], updates: Iterable[Mapping[str, Any]]) -> float:
    """How far the peer's vectors are from ours at most, over all `updates`; `events` are those users', in order.

    Raises:
        InterestError: an event has no update or two, or an update names another number of events.
    """
    by_user: defaultdict[object, list[Event]] = defaultdict(list)
    for event in events:
        by_user[event["user_id"]].append(event)
    answers: defaultdict[object, dict[int, Mapping[str, Any]]] = defaultdict(dict)
    for update in updates:
        if answers[update["user_id"]].setdefault(int(update["version"]), update) is not update:
            raise InterestError(f"user {update['user_id']}: two updates of version {update['version']}")
    session = bundles.session(bundle)
    furthest = 0.0
    for user, mine in by_user.items():
        if sorted(answers[user]) != list(range(1, len(mine) + 1)):
            raise InterestError(f"user {user}: versions 1 to {len(mine)} expected, got {sorted(answers[user])}")
        window: list[Event] = []
        for version, event in enumerate(mine, start=1):
            window.append(event)
            if len(window) > WINDOW_MAX_EVENTS:
                del window[:-WINDOW_KEEP_EVENTS]
            update = answers[user][version]
            if (update["events"], update["timestamp"]) != (len(window), event["timestamp"]):
                raise InterestError(f"user {user}, version {version}: expected {len(window)} events, got {update}")
            inputs = bundle.features.inputs(
                np.array([[_row(e) for e in window]], EVENT_DTYPE),
                np.full((1, len(window)), -1, np.int32),
                np.zeros((0, TEXT_MAX_TOKENS), np.uint32),
                np.array([len(window)], np.int32),
                np.array([-1], np.int64),
            )
            vector, _ = bundles.run(session, bundle.signature, inputs, bundles.zero_states(bundle.signature, 1))
            # Not max(): it would pass over what is not a number.
            furthest = float(np.maximum(furthest, np.abs(vector[0] - np.array(update["vector"], np.float32)).max()))
    return furthest


def _row(event: Event) -> tuple[object, ...]:
    """The event as EVENT_DTYPE has it."""
    values: Mapping[str, Any] = event
    category, rating = values.get("category_id"), values.get("rating")
    amounts: Sequence[int] = [amount_code(values.get(name)) for name in ("price", "quantity")]
    kind = EVENT_TYPES[values["type"]]
    item = hash64(values["item_id"])
    return values["timestamp"], item, 0, hash32(category) if category else 0, kind, round(10 * (rating or 0)), *amounts
