"""The events that are published while things break: real ones where they are at hand, repeated and broken ones among
them."""

import random
import time
from collections import deque
from collections.abc import Iterator, Mapping
from pathlib import Path

import orjson

from models.bundle import Bundle
from models.simulator import Shop, simulate
from tests.bundles import random_bundle
from tests.integration.taobao import FILES, LATE_MAX_S
from tests.reference import TAOBAO_TYPES, read_taobao

#: Key and value of a record.
Record = tuple[bytes, bytes]
Event = Mapping[str, object]

USERS, EVENTS = 800, 80_000
REPEATED, REFUSED = 0.02, 0.005
RECENT = 300
YEAR_2000_S = 946_684_800
#: What is done to an event so that it must be refused.
BROKEN: tuple[Event, ...] = ({"type": "look"}, {"timestamp": 15_000}, {"item_id": None}, {"user_id": "someone else"})


def log(seed: int) -> list[Event]:
    """The Taobao histories, each event up to two hours late and with an id; a simulated shop where they are missing."""
    if not FILES["histories"].is_file():
        now_ms = int(time.time() * 1000)
        return list(simulate(Shop(0), users=USERS, events=EVENTS, end_ms=now_ms, seed=seed, late=0.1))
    chance = random.Random(seed)
    rows = [row for row in read_taobao(FILES["histories"]) if row.seconds >= YEAR_2000_S]
    rows.sort(key=lambda row: row.seconds + chance.uniform(0, LATE_MAX_S))
    return [
        {
            "user_id": row.user_id,
            "type": TAOBAO_TYPES[row.behaviour],
            "item_id": row.item_id,
            "category_id": row.category_id,
            "timestamp": row.seconds * 1000,
            "event_id": str(number),
        }
        for number, row in enumerate(rows)
    ]


def records(events: list[Event], seed: int) -> Iterator[Record]:
    """The events without end, each round of other users; some come again later, some are to be refused."""
    chance = random.Random(seed)
    recent: deque[Record] = deque(maxlen=RECENT)
    around = 0
    while True:
        for event in events:
            user = f"{event['user_id']}-{around}" if around else str(event["user_id"])
            value = {**event, "user_id": user}
            record = user.encode(), orjson.dumps(value)
            recent.append(record)
            yield record
            if chance.random() < REPEATED:
                yield chance.choice(recent)
            if chance.random() < REFUSED:
                yield user.encode(), orjson.dumps({**value, **chance.choice(BROKEN)})
                yield user.encode(), record[1][: chance.randrange(len(record[1]))]
        around += 1


def bundle(folder: Path, events: list[Event]) -> Bundle:
    """A random model that knows every second item of the events."""
    categories = {str(event["item_id"]): str(event.get("category_id") or "") for event in events}
    items = sorted(categories)[::2]
    return random_bundle(folder, item_ids=items, item_categories=[categories[item] for item in items])
