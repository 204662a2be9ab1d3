"""How many threads the linear algebra under numpy and SciPy takes."""

from collections.abc import Iterator
from contextlib import contextmanager

from stream.errors import InterestError


@contextmanager
def one_thread() -> Iterator[None]:
    """One, as long as the context lasts, for loops of short steps.

    Threads that wait for each other after each took 5 times as long for a logistic regression and 16 times for GloVe,
    on two cores that others used too.

    Raises:
        InterestError: threadpoolctl, which comes with scikit-learn, is not installed.
    """
    try:
        from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # it has no types of its own
    except ImportError as error:
        if error.name != "threadpoolctl":
            raise
        raise InterestError("learning needs threadpoolctl: pip install 'interest-stream[train]'") from error
    with threadpool_limits(1):
        yield
