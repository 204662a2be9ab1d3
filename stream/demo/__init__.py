"""The demo: a simulated shop, a broker and a worker, and one view of what goes in and what comes out."""

import os

# ONNX Runtime 1.29 and later report to their makers unless told not to, and leave a file in the temporary folder.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
