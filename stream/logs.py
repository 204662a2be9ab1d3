"""What a worker writes to standard error: its own lines, and of the libraries' those that say something new."""

import asyncio
import logging
import sys

from stream.metrics import Totals

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


def set_up(level: str) -> None:
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


async def report(totals: Totals) -> None:
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
