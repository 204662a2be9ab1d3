"""What all tests share."""

import os
import warnings

import models  # noqa: F401  # switches ONNX Runtime's telemetry off, before a test imports that

# kafka-python reads its protocol with a function that Python 3.11 and 3.12 call deprecated, once, when imported.
with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    import kafka  # noqa: F401

#: A broker that runs already, instead of one of the session's own.
TOLD_BROKER = os.environ.get("INTEREST_TEST_BROKER")

# Settings of the person who runs the tests must not reach them; nor is INTEREST_TEST_BROKER a setting of a worker.
for name in [name for name in os.environ if name.upper().startswith("INTEREST_")]:
    del os.environ[name]
