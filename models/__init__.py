"""Event logs to models: features, training, evaluation, and the bundle that a worker serves."""
