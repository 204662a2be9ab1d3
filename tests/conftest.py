"""What all tests share."""

import warnings

# kafka-python reads its protocol with a function that Python 3.11 and 3.12 call deprecated, once, when imported.
with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    import kafka  # noqa: F401
