"""How a worker ends when it must not go on: one line that says why, a code that says what kind, and nothing else.

Nothing is finished or flushed: what was not acknowledged is worked on again by whoever has the partitions next.
"""

import logging
import os
from typing import NoReturn

log = logging.getLogger("interest")

#: A batch failed, or the model.
EXIT_FAILURE = 1
#: The table could not be restored.
EXIT_RECOVERY = 70
#: Records wait to be sent, and the partitions may be another worker's.
EXIT_ZOMBIE = 72
#: No progress, or no end of stopping.
EXIT_STALL = 73
#: A topic has other partitions than at the start.
EXIT_MOVED = 74


def end(code: int, message: str, *arguments: object) -> NoReturn:
    """Log the message as critical and end the process at once."""
    log.critical(message, *arguments)
    logging.shutdown()
    os._exit(code)
