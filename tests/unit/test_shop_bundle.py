"""The committed bundle is whole, small, the demo's shop's, and its vectors lean where a shopper looks."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from models import bundle as bundles
from models.bundle import Bundle, Windows
from models.simulator import Shop
from stream import contract

FOLDER = Path(bundles.__file__).parent / "shop"
SHOP = Shop()


@pytest.fixture(scope="module")
def shop() -> Bundle:
    """The committed bundle."""
    return bundles.load(FOLDER)


def leanings(bundle: Bundle, items: list[int]) -> NDArray[np.float32]:
    """Cosine of the vector with each category's, [categories], after clicks on the shop's `items`, 20 s apart."""
    events = np.zeros(len(items), contract.EVENT_DTYPE)
    events["timestamp"] = 1_760_000_000_000 + 20_000 * np.arange(len(items))
    events["type"] = contract.EVENT_TYPES["click"]
    for event, item in zip(events, items, strict=True):
        event["item"] = contract.hash64(SHOP.item_ids[item])
        event["category"] = contract.hash32(SHOP.category_ids[SHOP.item_category[item]])
        event["price"] = contract.amount_code(float(SHOP.prices[item]))
    inputs = Windows.pack([(events, [None] * len(items))]).inputs(bundle.features)
    zero = bundles.zero_states(bundle.signature, 1)
    vector, _ = bundles.run(bundles.session(bundle), bundle.signature, inputs, zero)
    cosines: NDArray[np.float32] = bundle.category_vectors @ vector[0]
    return cosines


def test_it_is_whole_and_small(shop: Bundle) -> None:
    """Verified here, at most 3 MiB, and its README names the command that made it."""
    assert bundles.verify(shop, bundles.session(shop)) < 1e-4
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 3 * 2**20
    assert shop.command in (FOLDER / "README.md").read_text()
    assert shop.metrics["validation"]["systems"]["lstm"]["hr@10"] > 0.5


def test_it_knows_the_demos_shop(shop: Bundle) -> None:
    """Every product and category of the default shop, by id and name."""
    products = dict(zip(SHOP.item_ids, SHOP.item_names, strict=True))
    assert dict(zip(shop.catalog.item_ids[1:].tolist(), shop.catalog.item_names[1:].tolist(), strict=True)) == products
    categories = dict(zip(SHOP.category_ids, SHOP.category_names, strict=True))
    named = zip(shop.catalog.category_ids[1:].tolist(), shop.catalog.category_names[1:].tolist(), strict=True)
    assert dict(named) == categories


@pytest.mark.parametrize("category", range(len(SHOP.category_ids)), ids=SHOP.category_ids)
def test_the_vector_leans_to_what_is_looked_at(shop: Bundle, category: int) -> None:
    """A dozen clicks in one category lead there, clearly; a dozen in another then lead away."""
    random = np.random.default_rng(category)
    other = (category + 5) % len(SHOP.category_ids)
    here, there = (random.choice(SHOP.members[index], 12).tolist() for index in (category, other))
    rows = {name: row for row, name in enumerate(shop.catalog.category_ids.tolist())}
    mine, theirs = rows[SHOP.category_ids[category]], rows[SHOP.category_ids[other]]
    first = leanings(shop, here)
    assert first.argmax() == mine
    assert first[mine] > 0.4
    assert first[mine] > first[theirs] + 0.1
    then = leanings(shop, here + there)
    assert then.argmax() == theirs
    assert then[theirs] > then[mine] + 0.1
