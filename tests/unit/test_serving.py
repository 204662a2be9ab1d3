"""A second model in the shadow of the first: its share of the users, its own updates, and no harm done."""

import json
import logging
from unittest.mock import patch

import numpy as np
import pytest

from models import bundle as bundles
from models.bundle import Bundle
from stream import batch
from stream.batch import Message, Plan
from stream.encode import Encoder
from stream.metrics import Totals
from stream.rules import Rules
from stream.serving import Serving, Shadow
from stream.update import UpdateFormat
from tests.bundles import small_bundles
from tests.poison import Raw

NOW_MS = 1_700_000_000_000
USERS = [f"u{number}" for number in range(400)]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Bundle]:
    """Two models."""
    return small_bundles(tmp_path_factory.mktemp("models"), 2)


def encoder(bundle: Bundle) -> Encoder:
    """A model, without any states."""
    return Encoder(bundle, bundles.session(bundle), 1000)


def plan(*records: dict[str, object]) -> Plan:
    """A batch of two partitions on an empty table."""
    raw = [
        Raw(str(value["user_id"]).encode(), json.dumps(value).encode(), offset, NOW_MS)
        for offset, value in enumerate(records)
    ]
    messages = [Message("events", partition, raw[partition::2]) for partition in (0, 1)]
    rules = Rules(50, 25, 10**9, 10**10)
    return batch.prepare(messages, {"events": 1}, lambda _partition, keys: [None] * len(keys), {}, rules)


def click(user: str) -> dict[str, object]:
    """An event."""
    return {"user_id": user, "type": "click", "item_id": "x", "timestamp": NOW_MS}


def erase(user: str) -> dict[str, object]:
    """An erase record."""
    return {"user_id": user, "type": "erase"}


def keys(updates: dict[int, list[tuple[bytes, bytes | None]]]) -> set[str]:
    """The users who have an update."""
    return {key.decode() for some in updates.values() for key, _ in some}


def test_share(models: list[Bundle]) -> None:
    """Each user is in it or not by the hash of the id alone; a larger share holds the smaller one."""
    totals = Totals()
    made = {
        share: keys(Shadow(encoder(models[1]), share, UpdateFormat(), totals).updates(plan(*map(click, USERS))))
        for share in (0.1, 0.5, 1.0)
    }
    assert made[0.1] < made[0.5] < made[1.0] == set(USERS)
    assert [True, True] == [20 < len(made[0.1]) < 70, 150 < len(made[0.5]) < 250]
    assert sum(map(len, made.values())) == totals.shadow_updates


def test_its_own_vectors_and_nothing_else(models: list[Bundle]) -> None:
    """Its updates carry its model and what that gives alone; the batch of the first model is left as it was."""
    both, alone = plan(*map(click, USERS)), plan(*map(click, USERS))
    first, second = encoder(models[0]), encoder(models[1])

    beside = Shadow(second, 0.5, UpdateFormat(), Totals()).updates(both)
    results = batch.finish(both, batch.encode(both, first), first, UpdateFormat())

    expected = batch.finish(alone, batch.encode(alone, encoder(models[0])), first, UpdateFormat())
    assert expected == results
    other = encoder(models[1])
    wanted = plan(*map(click, USERS))
    by_second = batch.finish(wanted, batch.encode(wanted, other), other, UpdateFormat())
    assert [0, 1] == sorted(beside)
    for partition, updates in beside.items():
        vectors = {key: json.loads(value or b"{}") for key, value in by_second[partition].updates}
        for key, value in updates:
            update = json.loads(value or b"{}")
            assert models[1].version == update["model"]
            np.testing.assert_allclose(vectors[key]["vector"], update["vector"], atol=1e-5)


def test_erased_users(models: list[Bundle]) -> None:
    """Who is erased gets a tombstone of the second model too, if it had him."""
    shadow = Shadow(encoder(models[1]), 0.5, UpdateFormat(), Totals())
    erased = shadow.updates(plan(*map(erase, USERS)))
    assert {user for user in USERS if shadow.has(user.encode())} == keys(erased)
    assert {None} == {value for some in erased.values() for _, value in some}


def test_failure_is_told_once_and_counted(models: list[Bundle], caplog: pytest.LogCaptureFixture) -> None:
    """A second model that raises leaves its updates out; each time counts, one line tells it."""
    totals = Totals()
    shadow = Shadow(encoder(models[1]), 1.0, UpdateFormat(), totals)
    with patch.object(shadow.encoder, "_call", side_effect=RuntimeError("no kernel")), caplog.at_level(logging.ERROR):
        assert [{}, {}] == [shadow.updates(plan(click("u1"))), shadow.updates(plan(click("u1")))]
    assert (2, 0) == (totals.shadow_failures, totals.shadow_updates)
    assert ["the shadow model fails, its updates are left out: RuntimeError: no kernel"] == caplog.messages
    assert {"u1"} == keys(shadow.updates(plan(click("u1"))))


def test_vectors_that_are_not_fit(models: list[Bundle]) -> None:
    """They are left out and counted, and not taken for the first model's."""
    totals = Totals()
    shadow = Shadow(encoder(models[1]), 1.0, UpdateFormat(), totals)
    nan = np.full((1, 2), np.nan, np.float32)
    one = plan(click("u1"))
    with patch.object(shadow.encoder, "_call", return_value=(nan, {"hidden": nan, "cell": nan})):
        assert {} == shadow.updates(one)
    assert (1, []) == (totals.shadow_failures, one.counts.not_finite)


def test_takes_over(models: list[Bundle]) -> None:
    """A model takes over without any states of the one before; both roles are named, and the swap counts."""
    totals = Totals()
    shadow = Shadow(encoder(models[1]), 1.0, UpdateFormat(), totals)
    serving = Serving(encoder(models[0]), totals, shadow)
    swapped = encoder(models[0])
    assert {"serving": models[0].version, "shadow": models[1].version} == totals.models

    serving.take(encoder(models[1]), "serving")
    serving.take(swapped, "shadow")

    assert (models[1], swapped) == (serving.encoder.bundle, shadow.encoder)
    assert {"serving": models[1].version, "shadow": models[0].version} == totals.models
    assert 2 == totals.model_swaps


def test_nothing_to_try_yet(models: list[Bundle]) -> None:
    """Without a second model that is fit the first serves alone; one that comes later is the second."""
    totals = Totals()
    shadow = Shadow(None, 1.0, UpdateFormat(), totals)
    serving = Serving(encoder(models[0]), totals, shadow)
    assert ({}, {"serving": models[0].version}) == (shadow.updates(plan(click("u1"))), totals.models)
    serving.forget([(0, b"u1")])

    serving.take(encoder(models[1]), "shadow")

    assert models[1].version == totals.models["shadow"]
    assert {"u1"} == keys(shadow.updates(plan(click("u1"))))


def test_forgotten_users(models: list[Bundle]) -> None:
    """The states of who is forgotten go from both models, and the second has tombstones for its share."""
    second = encoder(models[1])
    shadow = Shadow(second, 0.5, UpdateFormat(), Totals())
    serving = Serving(encoder(models[0]), Totals(), shadow)
    both = plan(*map(click, USERS))
    shadow.updates(both)
    batch.encode(both, serving.encoder)
    held = len(second.cache)

    serving.forget(both.keys)

    assert held > 0
    assert [0, 0] == [len(serving.encoder.cache), len(second.cache)]
    ids = [user.encode() for user in USERS]
    assert [(key, None) for key in ids if shadow.has(key)] == serving.beside(ids)
    assert [] == Serving(encoder(models[0]), Totals()).beside(ids)
