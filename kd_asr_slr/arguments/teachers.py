"""Arguments about the teachers and their soft targets."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

from kd_asr_slr.arguments.fields import at_least, one_of, option

# The form of stored distributions -> the options that are its own, and what the form calls them.
FORMAT_OPTIONS = {
    "dense": {},
    "quantised": {"cache_bits": "bits"},
    "topk": {"cache_top_k": "top_k"},
    "sampled": {"cache_samples": "samples", "cache_sample_temperature": "temperature"},
}


@dataclass
class TeacherArguments:
    """Who teaches, who may speak for which utterance, and how several become one."""

    teachers: list[str] = option(
        [], "run folders or hub names (OWNER/NAME@REVISION pins one); SPEAKER=FOLDER binds a teacher to a speaker"
    )
    teacher_cache: str | None = option(
        None,
        "folder of soft targets: cache_teachers.py writes it, distill.py reads it instead of teachers",
    )
    cache_dtype: str = option("float16", "float16, or float32 (twice the bytes, bit for bit the live teacher)")
    cache_format: str = option(
        "dense",
        "dense (cache_dtype), quantised (cache_bits a class), topk (the cache_top_k largest of each frame and the mass "
        "of the others), or sampled (cache_samples draws a frame); cache_teachers.py says what each loses here",
    )
    cache_bits: int = option(8, "quantised: 8 or 4 bits a class, and the 16 largest of each frame as they are")
    cache_top_k: int = option(100, "topk: classes of a frame, 4 bytes each")
    cache_samples: int = option(50, "sampled: draws a frame, 1 to 255; at most 5 bytes each")
    cache_sample_temperature: float = option(
        1.0, "sampled: temperature of what is drawn from; a loss at this temperature is unbiased"
    )
    cache_shard_size: int = option(256, "utterances a shard; a killed run loses at most one shard per process")
    cache_hidden_layers: list[int] = option([], "teacher layers whose hidden states are stored too")
    aggregation: str = option("route", "route, gate, logprob_mean, prob_mean, logit_mean, best or weighted")
    teacher_matching: str = option(
        "all",
        "whom a mean asks about an utterance: all; partial (teachers whose training data have its text, at least "
        "min_teachers of them); strict (only utterances that all of them have)",
    )
    min_teachers: int = option(1, "partial: teachers that must have an utterance")
    gate_temperature: float = option(0.1, "tau of gate: weights = softmax(-transcript loss per frame / tau)")
    weighting_temperature: float = option(0.1, "temperature of weighted: weights = softmax(-dev WER / temperature)")
    unknown_speaker: str = option("error", "a speaker without a teacher: error, generalist, logprob_mean or skip")
    generalist: str | None = option(None, "run folder or hub name of a teacher that knows every speaker")
    generalist_weight: float = option(0.0, "share of the generalist in every target, 0 to 1")
    held_out_as_teacher: bool = option(
        False, "let a teacher be bound to a held-out speaker: a debug run, whose score is none on an unseen speaker"
    )
    teacher_dtype: str = option("float32", "precision the teachers run in: float32, bfloat16 or float16")
    baseline_run: str | None = option(None, "run of the label-only student: a teacher worse than it stops the run")
    allow_worse_teacher: bool = option(False, "go on although a teacher is worse than the baseline")

    @property
    def target_format(self) -> dict[str, Any]:
        """Name and options of the form in which distributions are stored."""
        options = FORMAT_OPTIONS[self.cache_format]
        return {"name": self.cache_format, **{own: getattr(self, option) for option, own in options.items()}}

    def problems(self) -> list[str]:
        """Sentences about values that cannot be used."""
        found = one_of("unknown_speaker", self.unknown_speaker, ("error", "generalist", "logprob_mean", "skip"))
        found += one_of("teacher_matching", self.teacher_matching, ("all", "partial", "strict"))
        if self.min_teachers != 1 and self.teacher_matching != "partial":
            found.append(
                f"min_teachers is {self.min_teachers} and teacher_matching '{self.teacher_matching}' has no use for "
                "it; set --teacher_matching partial"
            )
        found += at_least(self, 1, "min_teachers")
        found += one_of("teacher_dtype", self.teacher_dtype, ("float32", "bfloat16", "float16"))
        found += one_of("cache_dtype", self.cache_dtype, ("float16", "float32"))
        found += one_of("cache_format", self.cache_format, tuple(FORMAT_OPTIONS))
        found += self._format_problems()
        if not self.teachers and not self.teacher_cache and not self.generalist:
            found.append("no teachers are given; set --teachers FOLDER [FOLDER ...] or --teacher_cache FOLDER")
        if self.cache_shard_size < 1:
            found.append(f"cache_shard_size is {self.cache_shard_size}; expected 1 or more")
        for name in ("gate_temperature", "weighting_temperature"):
            if getattr(self, name) <= 0:
                found.append(f"{name} is {getattr(self, name)}; expected more than 0")
        if not 0 <= self.generalist_weight <= 1:
            found.append(f"generalist_weight is {self.generalist_weight}; expected 0 to 1")
        return found

    def _format_problems(self) -> list[str]:
        defaults = {item.name: item.default for item in fields(self)}
        found = [
            f"{option} is {getattr(self, option)} and cache_format '{self.cache_format}' has no use for it; "
            f"set --cache_format {name}"
            for name, options in FORMAT_OPTIONS.items()
            for option in options
            if name != self.cache_format and getattr(self, option) != defaults[option]
        ]
        if self.cache_bits not in (4, 8):
            found.append(f"cache_bits is {self.cache_bits}; expected 8 or 4")
        found += at_least(self, 1, "cache_top_k")
        if not 1 <= self.cache_samples <= 255:
            found.append(f"cache_samples is {self.cache_samples}; expected 1 to 255")
        if not 0 < self.cache_sample_temperature < math.inf:
            found.append(f"cache_sample_temperature is {self.cache_sample_temperature}; expected more than 0")
        return found
