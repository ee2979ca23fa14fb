"""Knowledge distillation for CTC and CTC + attention recognisers of speech and sign language."""

__version__ = "0.1.0"
