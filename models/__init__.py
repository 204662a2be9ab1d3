"""Event logs to models: features, training, evaluation, and the bundle that a worker serves."""

import os

# ONNX Runtime reports its use to its maker from 1.29 on, unless told not to before it is first imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
