"""Whether everything can be carried to more partitions, from where to where, and how far that has come already."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import msgspec

from stream.consume import read_all
from stream.errors import TopicError, UsageError
from stream.groups import members
from stream.intime import Place, reach
from stream.rekey import grown_name
from stream.settings import Settings
from stream.topics import CREATE, TopicInfo, describe


class Note(msgspec.Struct, frozen=True):
    """How far the carrying has come."""

    partitions: int
    #: Kafka's id of each topic, old and new: one made anew is another.
    topics: dict[str, str]
    #: The next offset of each partition of the old events, by `topic/partition`; None: the table is not carried yet.
    next: dict[str, int] | None = None

    def at(self, after: Mapping[Place, int]) -> "Note":
        """The note of who has come so far."""
        return msgspec.structs.replace(
            self, next={f"{topic}/{partition}": offset for (topic, partition), offset in after.items()}
        )

    def offsets(self) -> dict[Place, int]:
        """The next offset of each partition of the old events."""
        places = ((name.rpartition("/"), offset) for name, offset in (self.next or {}).items())
        return {(topic, int(partition)): offset for (topic, _, partition), offset in places}


@dataclass(frozen=True)
class Plan:
    """From where to where."""

    settings: Settings
    to: Settings
    old: int  # partitions of the table
    new: int
    there: Mapping[str, TopicInfo]  # of all topics, old and new, those that exist
    note: Note | None

    @property
    def names(self) -> dict[str, str]:
        """The new name of each topic, events first."""
        return dict(zip(own_topics(self.settings), own_topics(self.to), strict=True))

    @property
    def is_carried(self) -> bool:
        """Whether only events are left to carry."""
        return self.note is not None and self.note.next is not None

    def told(self) -> list[str]:
        """What to set from then on, and to do."""
        return [
            "settings from now on, of workers, publishers and whoever reads updates:",
            f"  INTEREST_APP_ID={self.to.app_id}",
            f"  INTEREST_EVENT_TOPICS={','.join(self.to.event_topics)}",
            f"  INTEREST_UPDATE_TOPIC={self.to.update_topic}",
            "start workers with them and move all publishers; then run this again, with the old settings: it carries "
            "what came to the old event topics since, until it says 0 events",
        ]


def look(settings: Settings, partitions: int) -> Plan:
    """Find out what is there, and whether it can be carried to so many partitions.

    Raises:
        UsageError: not more partitions than there are.
        TopicError: a topic is missing; workers run; or new topics hold what this did not write.
        BrokerError: no broker answers, or it refuses.
    """
    broker = settings.cluster
    there = describe(broker, own_topics(settings), "Read")
    missing = [name for name in own_topics(settings) if name not in there]
    if missing:
        raise TopicError(
            f"missing on {broker}: {', '.join(missing)}; name the topics that workers have used (--app-id, "
            f"--event-topics, --update-topic); new ones are made with {CREATE}"
        )
    old, largest = there[settings.changelog_topic].partitions, max(info.partitions for info in there.values())
    if partitions <= old or partitions < largest:
        raise UsageError(
            f"wrong --partitions {partitions}: expected more than the {old} of {settings.changelog_topic}"
            + (f", and no fewer than {largest}, to which others have grown" if largest > old else "")
        )
    to = _grown(settings, old, partitions)
    live = members(broker, settings.app_id, "Read")
    if live:
        raise TopicError(
            f"group {settings.app_id} has {live} live member{'' if live == 1 else 's'}: stop all workers first; "
            "one that was killed counts until its session is over"
        )
    there |= describe(broker, to.event_topics, "Create", "Read", "Write", "AlterConfigs")
    others = [to.update_topic, to.changelog_topic, notes_topic(settings)]
    there |= describe(broker, others, "Create", "Read", "Write")
    plan = Plan(settings, to, old, partitions, there, _read_note(settings, there))
    _check_new(plan)
    return plan


def notes_topic(settings: Settings) -> str:
    """The topic that knows how far the carrying from these topics has come."""
    return f"{settings.app_id}-grown"


def own_topics(settings: Settings) -> list[str]:
    """The topics that keys move on, events first."""
    return [*settings.event_topics, settings.update_topic, settings.changelog_topic]


def _grown(settings: Settings, old: int, new: int) -> Settings:
    """The settings for the new topics."""
    to = settings.model_copy(
        update={
            "app_id": grown_name(settings.app_id, old, new),
            "event_topics": tuple(grown_name(name, old, new) for name in settings.event_topics),
            "update_topic": grown_name(settings.update_topic, old, new),
        }
    )
    names = [*own_topics(settings), *own_topics(to), settings.deadletter_topic, notes_topic(settings)]
    if len(set(names)) < len(names):
        raise UsageError(f"topics would have the same name: {', '.join(names)}")
    return to


def _check_new(plan: Plan) -> None:
    """New topics must be those of the note, or empty."""
    new = [plan.there[name] for name in own_topics(plan.to) if name in plan.there]
    notes = notes_topic(plan.settings)
    if plan.note is not None:
        if plan.note.partitions != plan.new:
            raise TopicError(
                f"{plan.settings.app_id} was carried to {plan.note.partitions} partitions, not {plan.new}: go on with "
                f"that, and grow the new topics afterwards ({notes} keeps how far it came)"
            )
        for name, topic_id in plan.note.topics.items():
            if name not in plan.there or plan.there[name].topic_id.hex != topic_id:
                raise TopicError(
                    f"topic {name} was deleted or made anew since it was carried; to begin once more, delete "
                    f"{', '.join([*(info.name for info in new), notes])}"
                )
        return
    for info in new:
        if info.partitions != plan.new:
            raise TopicError(
                f"topic {info.name} exists with {info.partitions} partitions, expected {plan.new}; delete it"
            )
    _, ends = reach(plan.settings.cluster, [info.name for info in new])
    for (name, _), end in ends.items():
        if end > 0:
            raise TopicError(f"topic {name} exists with records that are not of this command; delete it first")


def _read_note(settings: Settings, there: Collection[str]) -> Note | None:
    notes = notes_topic(settings)
    value = None
    for record in read_all(settings.cluster, notes) if notes in there else ():
        value = record.value
    if value is None:
        return None
    try:
        return msgspec.json.decode(value, type=Note)
    except msgspec.DecodeError as error:
        raise TopicError(f"topic {notes}: expected a note of this command, got {value[:100]!r}: {error}") from error
