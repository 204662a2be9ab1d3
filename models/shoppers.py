"""The simulated shop's users: tastes that drift, and what a visit to the shop consists of."""

from collections.abc import Iterator
from typing import Final

import numpy as np

from models.products import STYLES, Shop

CHINESE_SHARE: Final = 0.4
DRIFT_A_DAY: Final = 1.2  # standard deviation of how far a category's appeal wanders in a day
HOME_DAYS: Final = 5.0  # days after which about two thirds of a deviation from a user's lasting taste are gone


class Uniform:
    """Random numbers from 0 up to 1, one a call; drawn in blocks, since numpy is slow one by one."""

    def __init__(self, random: np.random.Generator) -> None:
        self._numbers = self._draw(random)

    @staticmethod
    def _draw(random: np.random.Generator) -> Iterator[float]:
        while True:
            yield from random.random(8192).tolist()

    def __call__(self) -> float:
        return next(self._numbers)


class Shoppers:
    """Users with lasting tastes, moods that wander about them, and purchases they have yet to review.

    A visit is a list of steps (type, item): clicks within one category, then and again another; what was clicked may go
    to cart or favorites, what is in the cart may be bought, what was bought on an earlier visit may be reviewed.
    """

    def __init__(self, shop: Shop, users: int, seed: int) -> None:
        random = np.random.default_rng([seed, 1])
        categories = len(shop.category_ids)
        self.shop = shop
        self.uniform = Uniform(np.random.default_rng([seed, 2]))
        self._normal = np.random.default_rng([seed, 3]).standard_normal
        # Two or three categories carry most of a user's taste.
        self._taste = np.log(random.dirichlet(np.full(categories, 0.25), users) + 1e-3)
        self._mood = np.zeros((users, categories))
        self._mood_day = np.zeros(users)
        self._style = random.normal(0, 0.8, (users, STYLES))
        self.chinese = (random.random(users) < CHINESE_SHARE).tolist()
        self._activity = np.cumsum(random.lognormal(0, 1, users))
        self._activity /= self._activity[-1]
        self._to_review: dict[int, list[int]] = {}
        self._next: dict[int, int] = {}  # category that a purchase made a user curious of
        self._last: dict[int, tuple[int, float]] = {}  # category and day of the last visit

    def pick(self) -> int:
        """A user; a few come often, most seldom."""
        return int(np.searchsorted(self._activity, self.uniform(), side="right"))

    def intent(self, user: int, day: float) -> int:
        """The category a user comes for on `day`: of the mood then, the last visit's, or what goes with a purchase."""
        passed = day - float(self._mood_day[user])
        self._mood_day[user] = day
        mood = self._mood[user]
        mood *= np.exp(-passed / HOME_DAYS)
        mood += DRIFT_A_DAY * min(passed, HOME_DAYS) ** 0.5 * self._normal(len(mood))
        category, since = self._last.get(user, (-1, -1e9))
        if user in self._next and self.uniform() < 0.5:
            category = self._next.pop(user)
        elif category < 0 or day - since > 1 or self.uniform() < 0.5:
            appeal = np.cumsum(np.exp(self._taste[user] + mood))
            category = int(np.searchsorted(appeal, self.uniform() * appeal[-1], side="right"))
        self._last[user] = category, day
        return category

    def visit(self, user: int, category: int, steps: int) -> list[tuple[str, int]]:
        """Exactly `steps` steps of a user who comes for `category`."""
        shop, uniform = self.shop, self.uniform
        taken: list[tuple[str, int]] = []
        waiting = self._to_review.get(user)
        if waiting and uniform() < 0.5:
            taken.append(("review", waiting.pop(0)))
        shelf = self._shelf(user, category)
        seen, fresh = -1, False  # the last click, and whether nothing was done with it yet
        cart: list[int] = []
        while len(taken) < steps:
            chance = uniform()
            if cart and chance < 0.35:
                item = cart.pop()
                taken.append(("purchase", item))
                self._to_review.setdefault(user, []).append(item)
                self._next[user] = shop.goes_with[shop.item_category[item]]
            elif fresh and chance > 0.95:
                taken.append(("favorite", seen))
                fresh = False
            elif fresh and chance > 0.89 - 0.15 * shop.quality[seen]:
                taken.append(("cart", seen))
                cart.append(seen)
                fresh = False
            else:
                if seen >= 0 and uniform() < 0.5:
                    near = shop.neighbours[seen]
                    seen = int(near[int(uniform() * len(near))])
                else:
                    if uniform() < 0.08:
                        category = shop.goes_with[category]
                        shelf = self._shelf(user, category)
                    place = np.searchsorted(shelf, uniform() * shelf[-1], side="right")
                    seen = int(shop.members[category][place])
                taken.append(("click", seen))
                fresh = True
        return taken

    def rating(self, user: int, item: int) -> int:
        """1 to 5 stars: the product's quality, and how near it is to the user's style."""
        fit = float(self._style[user] @ self.shop.style[item]) / STYLES
        stars = 1 + 4 * float(self.shop.quality[item]) + 0.5 * fit + 1.2 * (self.uniform() - 0.5)
        return min(5, max(1, round(stars)))

    def _shelf(self, user: int, category: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        members = self.shop.members[category]
        liked = self.shop.style[members] @ self._style[user] + self.shop.popularity[members]
        shelf: np.ndarray[tuple[int], np.dtype[np.float64]] = np.cumsum(np.exp(liked))
        return shelf
