"""The metric `wer`, as a module of `evaluate`."""
