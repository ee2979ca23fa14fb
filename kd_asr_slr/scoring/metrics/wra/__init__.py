"""The metric `wra`, as a module of `evaluate`."""
