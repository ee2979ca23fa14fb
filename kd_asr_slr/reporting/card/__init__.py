"""The parts of a model card: `context`, `metadata`, `method`, `scores`, `usage`; `model_card` puts them together."""
