"""The errors a person sees: one line that says what was expected, what came and what to do."""


class InterestError(Exception):
    """Root of all errors of this project; ends a command with exit code 1."""


class UsageError(InterestError):
    """The call or a setting is wrong; ends a command with exit code 2."""


class BundleError(InterestError):
    """A model bundle is missing, incomplete, damaged or does not do what it says."""


class TopicError(InterestError):
    """A topic is missing or not made as the worker needs it."""


class BrokerError(InterestError):
    """No broker answers, or it refuses."""


class AccessError(BrokerError):
    """A broker refuses this client, or cannot be trusted; tells which setting or which ACL it is."""


class TableValueError(InterestError):
    """A table value cannot be read: unknown format byte, or cut short."""
