"""From a file or an array to its text and words with times, by a trained recogniser and any of its decoders.

recogniser  Recogniser, recognise
results     Recognition, Word, and from output frames to times
decoders    a decoder by the options of recipes/score.py
"""

from kd_asr_slr.recognition.recogniser import Recogniser, recognise
from kd_asr_slr.recognition.results import Recognition, Word

__all__ = ["Recogniser", "Recognition", "Word", "recognise"]
