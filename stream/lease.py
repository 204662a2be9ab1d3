"""How long a worker may act as the owner of its partitions without hearing from the broker."""

import time

# The share of the session for which a good heartbeat proves that the partitions are still ours.
LEASE_SHARE = 0.8


class Lease:
    """How long the partitions are ours for certain: until the broker could have given them to others."""

    def __init__(self, session_timeout_s: float) -> None:
        self._duration_s = LEASE_SHARE * session_timeout_s
        self._from = 0.0

    def renew(self, at: float | None = None) -> None:
        """Start anew from `at`, by time.monotonic (now by default): when a heartbeat that was answered was sent."""
        self._from = max(self._from, time.monotonic() if at is None else at)

    @property
    def left_s(self) -> float:
        """Seconds left; 0 or less: over."""
        return self._from + self._duration_s - time.monotonic()
