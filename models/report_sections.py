"""The sections of an evaluation report, in order; what was not measured has none."""

from collections.abc import Sequence
from typing import Any, Final

from models.report_content import (
    About,
    Section,
    Strong,
    Table,
    best,
    bins_of,
    clock,
    figure,
    groups_of,
    percent,
    points,
    probabilities_of,
)
from models.verdict import (
    ALIKE,
    BETTER,
    DAILY,
    MODEL,
    PLAIN,
    WORSE,
    Difference,
    differences,
    systems_of,
    top_of,
    verdict,
)

#: What each system is, for people; others go by their name alone.
SYSTEMS: Final = {
    MODEL: "the bundle's vector after the user's last event",
    PLAIN: "the same with the LSTM's part of the vector left out",
    DAILY: "the bundle's vector as it was when the day began (UTC), as a nightly job would have it",
    "popularity": "no model: items by their events that are not asked for",
    "markov": "no model: items by how often they followed the user's last item",
    "neighbours": "no model: items by how often they stood near the user's last items",
    "latest": "no model: the user's own latest items, newest first",
}
#: What a comparison of the model with a part of itself means.
OF_DAILY: Final = {
    BETTER: "an update after each event is worth having",
    ALIKE: "a vector made once a day would have done",
    WORSE: "the morning's vector would have done better",
}
OF_PLAIN: Final = {
    BETTER: "the LSTM earns its place",
    ALIKE: "what the LSTM adds does not show",
    WORSE: "the LSTM does harm",
}


#: Figures of models.evaluation that are shown, and what they are called.
KEYS: Final = ("hr@10", "ndcg@10", "hr@20", "mrr@20")
HEADS: Final = ("HR@10", "NDCG@10", "HR@20", "MRR@20")


def sections(found: dict[str, Any], about: About) -> list[Section]:
    """All of them; `found` is of models.measure and was checked."""
    made = [_rolled_out(found), _measured(found, about), _systems(found), *_groups(found)]
    return [*made, *_probability(found), *_training(found), *_beside_in_training(found), _meaning(found)]


def _rolled_out(found: dict[str, Any]) -> Section:
    told = [*differences(found, "item"), *differences(found, "category")]
    rows = tuple(
        (
            one.group,
            one.against,
            Strong(one.word),
            points(one.ours - one.theirs),
            f"{points(one.low)} to {points(one.high)}",
            percent(one.ours),
            percent(one.theirs),
        )
        for one in told
    )
    head = ("asked for", "the model against", "the model is", "difference", "95 % interval", "model", "other")
    top, answer = top_of(found), verdict(found)
    return Section(
        "Roll out or not",
        lead=f"{answer.answer}. {answer.reason}",
        says=tuple(_sentence(one) for one in told if one.group == "category" or _own(one)),
        plot="differences" if rows else "",
        caption=f"The model's HR@{top} less the other's, in points of a percent, with the 95 % interval.",
        table=Table(head, rows, left=3) if rows else None,
    )


def _own(one: Difference) -> bool:
    return one.against in (DAILY, PLAIN)


def _sentence(one: Difference) -> str:
    against = {DAILY: "the bundle's own daily vector", PLAIN: "the model without its LSTM"}.get(
        one.against, one.against
    )
    what = "On items" if one.group == "item" else "On categories"
    said = f"{what}, against {against}: {one.word}, {points(one.ours - one.theirs)} points"
    follows = {DAILY: OF_DAILY, PLAIN: OF_PLAIN}.get(one.against)
    return f"{said}; {follows[one.word]}." if follows else f"{said}."


def _measured(found: dict[str, Any], about: About) -> Section:
    facts = [("Bundle", about.bundle), ("Log", about.log)]
    if about.events:
        facts.append(("Its events", f"{about.events:,}" + (f" of {about.users:,} users" if about.users else "")))
    if about.first_ms and about.last_ms:
        facts.append(("Its dates", f"{clock(about.first_ms)} to {clock(about.last_ms)}"))
    facts += [
        ("Asked for", f"{found['asked']:,} events, from {clock(found['after_ms'])} on"),
        ("Known items", f"{percent(found['known'])} of the events asked for are of items in the bundle's catalog"),
        ("Without history", f"{found['without_history']:,} of them are of users without an event before"),
        ("Coverage", f"{percent(found['coverage'])} of the catalog is among anybody's first 10"),
        ("Made on", about.made_on.isoformat()),
        ("Command", ""),
    ]
    says = "Each event was looked for among all items by the vector that stood before it, as a stream sees them."
    return Section("What was measured", says=(says,), facts=tuple(facts), code=about.command)


def _systems(found: dict[str, Any]) -> Section:
    top, systems = top_of(found), found["systems"]
    tops = sorted(systems[MODEL]["item"]["hr"], key=int)
    head = ("asked for", "system", *(f"HR@{one}" for one in tops), f"NDCG@{top}", f"MRR@{top}")
    rows = []
    for group in ("item", "category"):
        has = [name for name in systems_of(found) if group in systems[name]]
        most = {each: max((systems[name][group]["hr"][each] for name in has), default=0) for each in tops}
        for name in has:
            one = systems[name][group]
            shares = [best(percent(one["hr"][each]), one["hr"][each] == most[each] > 0) for each in tops]
            rows.append((group, name, *shares, f"{one['ndcg'][top]:.4f}", f"{one['mrr'][top]:.4f}"))
    return Section(
        "All systems",
        facts=tuple((name, SYSTEMS[name]) for name in systems_of(found) if name in SYSTEMS),
        plot="systems",
        caption=f"HR@{top}: share of the events found among the first {top}; the thin lines are 95 % intervals.",
        table=Table(head, tuple(rows), left=2),
    )


def _groups(found: dict[str, Any]) -> list[Section]:
    top, systems = top_of(found), found["systems"]
    made = []
    for key, (title, first, parts, groups) in groups_of(found).items():
        names = [name for name in systems_of(found) if any(group in systems[name] for group in groups)]
        rows = []
        for group, short in groups.items():
            shares = {name: systems[name][group]["hr"][top] for name in names if group in systems[name]}
            most = max(shares.values())
            cells = [best(percent(shares[each]), shares[each] == most > 0) if each in shares else "–" for each in names]
            rows.append((short, f"{systems[MODEL][group]['asked']:,}", *cells))
        made.append(
            Section(
                title,
                says=(f"{parts} Items, HR@{top}.",),
                plot=f"group-{key}",
                caption=f"HR@{top} of the model, of what is its own, and of the strongest without a model.",
                table=Table((first, "events", *names), tuple(rows)),
            )
        )
    return made


def _probability(found: dict[str, Any]) -> list[Section]:
    told = probabilities_of(found)
    if not told:
        return []
    rows, drawn = [], False
    for name, one in told.items():
        bins = bins_of(one)
        drawn = drawn or bool(bins)
        weight = sum(each[2] for each in bins)
        means = [percent(sum(each[at] * each[2] for each in bins) / weight) if weight else "–" for at in (0, 1)]
        rows.append((name, figure(one.get("auc")), figure(one.get("ece")), *means))
    return [
        Section(
            "Probabilities",
            facts=(
                ("AUC", "how often what came was given more than what did not: 0.5 is chance, 1 perfect"),
                ("ECE", "how far probabilities are from what came, on average: 0 is perfect"),
            ),
            plot="calibration" if drawn else "",
            caption="On the dashed line what was predicted came as often as said. Larger dots stand for more cases.",
            table=Table(("event", "AUC", "ECE", "mean predicted", "share observed"), tuple(rows)),
        )
    ]


def _training(found: dict[str, Any]) -> list[Section]:
    told: Sequence[dict[str, Any]] = found.get("training") or []
    if not told:
        return []
    says = [f"Loss {told[0]['loss']:.4f} after epoch {told[0]['epoch']}, {told[-1]['loss']:.4f} after the last."]
    hits = [one for one in told if one.get("hr@10") is not None]
    if hits:
        most = max(hits, key=lambda one: float(one["hr@10"]))
        says.append(f"HR@10 of what was held out was highest after epoch {most['epoch']}: {percent(most['hr@10'])}.")
    rows = tuple(
        (str(one["epoch"]), f"{one['loss']:.4f}", percent(one["hr@10"]) if one.get("hr@10") is not None else "–")
        for one in told
    )
    caption = "Mean loss of each epoch" + (", and HR@10 of what was held out." if hits else ".")
    table = Table(("epoch", "loss", "HR@10"), rows)
    return [Section("Training", says=tuple(says), plot="training", caption=caption, table=table)]


def _beside_in_training(found: dict[str, Any]) -> list[Section]:
    """What else was trained in the same way, most of all the model without its encoder."""
    made = []
    for role, told in (found.get("compared") or {}).items():
        rows = tuple(
            ("no encoder: last event and means alone" if name == "none" else name, *(percent(one[key]) for key in KEYS))
            for name, one in told["systems"].items()
        )
        says = (
            f"{told['asked']:,} events that were held out of the training, asked in the windows before them. What "
            "an encoder adds is the difference to no encoder, which was trained in the same way.",
        )
        made.append(Section(f"With and without its encoder, {role}", says=says, table=Table(("", *HEADS), rows)))
    return made


def _meaning(found: dict[str, Any]) -> Section:
    top = top_of(found)
    facts = (
        (
            f"HR@{top}",
            f"the share of events whose item, or category, was among the first {top} of all, ranked in full and not "
            "against a sample. NDCG and MRR count a hit for more the higher it stands.",
        ),
        (
            "Ties",
            "what scores the same counts as standing before the one asked for. A tie is in nobody's favour: a system "
            "that gives all items one score finds nothing.",
        ),
        (
            "Known items",
            f"{percent(1 - found['known'])} of the events were of items that the bundle's catalog lacks. The model "
            "cannot name an item before its first event, of anybody; from then on it stands where its category, and "
            "what the bundle says of such items, put it.",
        ),
        (
            "Coverage",
            "how much of the catalog the first 10 of all users name together. Near 0, all users are shown the same.",
        ),
        (
            "Better and worse",
            "the 95 % interval of the difference of two binomial shares (Newcombe's) leaves out 0. It is approximate: "
            "it takes the shares for independent, though both systems were asked the same events, which makes it wider "
            "than need be; and the events of a user hang together, which makes it too narrow. A difference just beyond "
            "0 proves little.",
        ),
    )
    return Section("What the figures mean", facts=facts)
