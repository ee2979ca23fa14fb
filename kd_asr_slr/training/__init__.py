"""Training: data and models from arguments, preflight checks, the trainer, decoding and scoring of a run."""
