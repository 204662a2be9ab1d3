"""The Taobao files, what the reference makes of them, and the comparison with what the workers wrote."""

import json
import os
import random
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.bundles import random_bundle
from tests.integration.conftest import Names
from tests.integration.workers import last_values, read, reasons
from tests.reference import Model, Reference, TaobaoRow, read_taobao, read_value, replay_taobao, write_taobao

FOLDER = Path(__file__).resolve().parents[3] / "shared" / "data" / "taobao"
FILES = {
    "slice": FOLDER / "UserBehavior_timeslice_20171126.csv.gz",
    "histories": FOLDER / "UserBehavior_first815users.csv.gz",
}
TOLERANCE = 1e-5
LATE_MAX_S = 7200
SEED = 20171126

#: The slice of two hours; the histories in file order, and so that each event comes up to two hours late.
Name = Literal["slice", "histories", "late"]


def require() -> None:
    """Skip the test where the data is missing; in CI that is a failure."""
    missing = [path for path in FILES.values() if not path.is_file()]
    if missing:
        reason = f"no {missing[0]}: these files lie in shared/data/taobao beside the repository"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)


@dataclass(frozen=True, eq=False)
class Replay:
    """A file, and what a replay of it must leave."""

    file: Path
    reference: Reference
    keys: list[bytes]
    vectors: NDArray[np.float32]  # [users, dim], in the order of `keys`
    refused: dict[str, int]


@dataclass(frozen=True, eq=False)
class Taobao:
    """A model for both files, and each way to replay them, made when it is asked for."""

    folder: Path
    model: Model

    @cache  # noqa: B019 - lives as long as the session
    def replay(self, name: Name) -> Replay:
        """What a replay must leave behind."""
        rows = read_rows("slice" if name == "slice" else "histories")
        file = FILES["slice" if name == "slice" else "histories"]
        if name == "late":
            chance = random.Random(SEED)
            rows = sorted(rows, key=lambda row: row.seconds + chance.uniform(0, LATE_MAX_S))
            file = self.folder / "late.csv"
            write_taobao(file, rows)
        reference = replay_taobao(rows)
        keys = sorted(reference.users)
        vectors = self.model.vectors([reference.users[key].events for key in keys])
        return Replay(file, reference, keys, vectors, {"timestamp_too_old": 1} if name == "slice" else {})


@cache
def read_rows(name: str) -> list[TaobaoRow]:
    """The lines of a file."""
    return read_taobao(FILES[name])


_made: dict[Path, Taobao] = {}


def make(tmp_path_factory: pytest.TempPathFactory) -> Taobao:
    """One for the session: a random model that knows every second item and all categories but some."""
    require()
    folder = tmp_path_factory.getbasetemp() / "taobao"
    if folder not in _made:
        folder.mkdir()
        category = {row.item_id: row.category_id for name in FILES for row in read_rows(name)}
        items = sorted(category)[::2]
        categories = ["" if category[item].endswith("7") else category[item] for item in items]
        bundle = random_bundle(folder / "bundle", item_ids=items, item_categories=categories)
        _made[folder] = Taobao(folder, Model(bundle))
    return _made[folder]


def assert_exact(names: Names, taobao: Taobao, replay: Replay, *others: Model) -> None:
    """Every user's last update, table value and all dead letters are what the reference says.

    An update may be of one of the `others` in place of taobao's model: it must be that one's vector then.
    """
    users = replay.reference.users

    changelog = last_values(read(names.broker, names.changelog_topic))
    assert replay.keys == sorted(changelog)
    for key, record in changelog.items():
        stored = read_value(record.value)
        wanted = users[key]
        assert (wanted.events, wanted.version, wanted.floor or 0) == (list(stored.events), stored.version, stored.floor)

    latest = newest_updates(read(names.broker, names.update_topic))
    assert replay.keys == sorted(latest)
    assert replay.reference.outcomes["accepted"] == sum(update["version"] for update in latest.values())
    vectors = {taobao.model.bundle.version: replay.vectors}
    for other in others:
        vectors[other.bundle.version] = other.vectors([users[key].events for key in replay.keys])
    for row, key in enumerate(replay.keys):
        update = latest[key]
        wanted = users[key]
        found = np.array(update.pop("vector"), np.float32)
        assert np.abs(found - vectors[update.pop("model")][row]).max() <= TOLERANCE
        assert {
            "user_id": key.decode(),
            "version": wanted.version,
            "timestamp": wanted.events[-1].timestamp,
            "events": len(wanted.events),
        } == update

    assert replay.refused == reasons(read(names.broker, names.deadletter_topic))


def newest_updates(records: list[Any]) -> dict[bytes, dict[str, Any]]:
    """What a consumer holds that follows the order rule: by (timestamp, version), older ones ignored."""
    latest: dict[bytes, dict[str, Any]] = {}
    for record in records:
        if record.value is None:
            latest.pop(record.key, None)
            continue
        update = json.loads(record.value)
        held = latest.get(record.key)
        if held is None or (update["timestamp"], update["version"]) >= (held["timestamp"], held["version"]):
            latest[record.key] = update
    return latest
