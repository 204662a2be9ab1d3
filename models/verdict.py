"""Whether one system finds more of the events asked for than another, how sure that is, and what follows from it."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Any, Final

Z: Final = 1.959964  # of the normal distribution, 95 % within ± Z
BETTER, WORSE, ALIKE = "better", "worse", "not told apart"
#: Systems as models.measure names them: the model's own, whole or in part, and what needs none; others are models, too.
MODEL, PLAIN, DAILY = "model", "model without its LSTM", "daily"
OWN: Final = (MODEL, PLAIN, DAILY)
WITHOUT: Final = ("popularity", "markov", "neighbours", "latest")


def wilson(share: float, asked: int) -> tuple[float, float]:
    """95 % interval of a share of `asked` events, each found or not (Wilson 1927, score interval).

    Holds for shares of 0 and 1 too, where share ± Z·√(share·(1 - share)/asked) has no width.
    """
    if asked <= 0:
        return 0.0, 1.0
    middle = (share + Z * Z / (2 * asked)) / (1 + Z * Z / asked)
    half = Z * sqrt(share * (1 - share) / asked + Z * Z / (4 * asked * asked)) / (1 + Z * Z / asked)
    return max(0.0, min(share, middle - half)), min(1.0, max(share, middle + half))


def interval(ours: float, asked: int, theirs: float, their_asked: int) -> tuple[float, float]:
    """95 % interval of `ours - theirs`, shares of `asked` and `their_asked` events (Newcombe 1998, method 10).

    Approximate: it takes the two for independent samples. Where both were asked the same events it is too wide as far
    as they find the same ones; and events of a user hang together, which makes it too narrow.
    """
    (our_low, our_high), (their_low, their_high) = wilson(ours, asked), wilson(theirs, their_asked)
    difference = ours - theirs
    low = difference - sqrt((ours - our_low) ** 2 + (their_high - theirs) ** 2)
    high = difference + sqrt((our_high - ours) ** 2 + (theirs - their_low) ** 2)
    return low, high


@dataclass(frozen=True)
class Difference:
    """The model's share of events found, less another system's."""

    group: str  # what was asked for: item, category
    against: str
    ours: float
    theirs: float
    low: float
    high: float

    @property
    def word(self) -> str:
        """BETTER or WORSE where the interval is on one side of 0, else ALIKE."""
        return BETTER if self.low > 0 else WORSE if self.high < 0 else ALIKE


def top_of(found: dict[str, Any]) -> str:
    """The longest list that models.measure looked at: "20"."""
    return str(max(map(int, found["systems"][MODEL]["item"]["hr"])))


def systems_of(found: dict[str, Any]) -> list[str]:
    """Names of the systems: the model's own first, then the others as they came."""
    own = [name for name in OWN if name in found["systems"]]
    return [*own, *(name for name in found["systems"] if name not in own)]


def differences(found: dict[str, Any], group: str) -> list[Difference]:
    """The model against each other system that was asked for `group`, by HR at the longest list; in their order."""
    systems, top = found["systems"], top_of(found)
    if group not in systems[MODEL]:
        return []
    share, asked = systems[MODEL][group]["hr"][top], systems[MODEL][group]["asked"]
    told = []
    for name in systems_of(found)[1:]:
        if group in systems[name]:
            other, of = systems[name][group]["hr"][top], systems[name][group]["asked"]
            told.append(Difference(group, name, share, other, *interval(share, asked, other, of)))
    return told


@dataclass(frozen=True)
class Verdict:
    """BETTER: roll out, WORSE: do not, ALIKE: not decided; and why."""

    word: str
    reason: str

    @property
    def answer(self) -> str:
        """In words."""
        return {BETTER: "Roll out", WORSE: "Do not roll out", ALIKE: "Not decided"}[self.word]


def verdict(found: dict[str, Any]) -> Verdict:
    """By items alone: roll out if the model is better than all that is not its own, do not if it is worse than any."""
    told, top = [one for one in differences(found, "item") if one.against not in OWN], top_of(found)
    worse = [one.against for one in told if one.word == WORSE]
    alike = [one.against for one in told if one.word == ALIKE]
    if not told:
        return Verdict(ALIKE, "Nothing else was measured beside the model.")
    if worse:
        one = len(worse) == 1
        how = f", which need{'s' if one else ''} no model," if set(worse) <= set(WITHOUT) else ""
        return Verdict(WORSE, f"{_and(worse)}{how} find{'s' if one else ''} more of the items (HR@{top}).")
    if alike:
        return Verdict(
            ALIKE, f"Of the items, the model's share is not told apart from that of {_and(alike)} (HR@{top})."
        )
    return Verdict(BETTER, f"The model finds more of the items than {_and([one.against for one in told])} (HR@{top}).")


def _and(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
