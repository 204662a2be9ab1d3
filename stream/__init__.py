"""The worker: user events in, interest vectors out."""

__version__ = "0.1.0"
