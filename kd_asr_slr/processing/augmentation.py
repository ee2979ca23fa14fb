"""Augmentations by name, on waveforms [S] (see `augmentation_speech`), on the frames of sign (see `augmentation_sign`)
or on features [T, F]; each says whether it keeps the length.

With cached teacher targets only those that keep it are allowed, since a target belongs to its frame.
Adding one is a class and a line in `AUGMENTATIONS`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import numpy as np

from kd_asr_slr.errors import raise_all
from kd_asr_slr.processing.augmentation_sign import SIGN_AUGMENTATIONS
from kd_asr_slr.processing.augmentation_speech import SPEECH_AUGMENTATIONS
from kd_asr_slr.processing.layouts import Layout


@dataclass(frozen=True)
class SpecAugment:
    """Set bands of time and of frequency to zero, which is the mean of normalised features.

    Source: Park et al., "SpecAugment" (2019), section 2, without time warping; the time masks are bounded by a share of
    the utterance as in Park et al., "SpecAugment on large scale datasets" (2020), equation 1.

    Args:
        time_masks, frequency_masks: how many of each.
        time_share: longest time mask as a share of the utterance's frames.
        frequency_width: widest frequency mask, in features.
    """

    domain: ClassVar[str] = "features"
    keeps_length: ClassVar[bool] = True
    time_masks: int = 2
    time_share: float = 0.1
    frequency_masks: int = 2
    frequency_width: int = 15

    def __call__(self, features: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """Mask a copy of the features [T, F]."""
        masked = np.array(features)
        frames, width = masked.shape
        for start, stop in _bands(generator, self.time_masks, int(self.time_share * frames), frames):
            masked[start:stop] = 0.0
        for start, stop in _bands(generator, self.frequency_masks, min(self.frequency_width, width), width):
            masked[:, start:stop] = 0.0
        return masked


AUGMENTATIONS: dict[str, Any] = {
    "spec_augment": SpecAugment,
    **SPEECH_AUGMENTATIONS,
    **SIGN_AUGMENTATIONS,
}

_STAGES = {"waveform": 0, "features": 1, "landmarks": 2}


class Augmentation:
    """Augmentations in the order given; what an utterance gets depends on (seed, epoch, index) and nothing else.

    So neither the number of loader workers nor that of processes changes a run.

    Args:
        steps: instances of the classes in `AUGMENTATIONS`.
        seed: of the run.
    """

    def __init__(self, steps: Sequence[Any], seed: int = 0) -> None:
        self.seed = seed
        self._steps = {domain: [step for step in steps if step.domain == domain] for domain in _STAGES}

    def has(self, domain: str) -> bool:
        """Whether any of them works on "waveform", "landmarks" or "features"."""
        return bool(self._steps[domain])

    @property
    def needs_points(self) -> bool:
        """Whether any of those on landmarks has to know where which point is."""
        return any(step.needs_points for step in self._steps["landmarks"])

    @property
    def only_moves(self) -> bool:
        """Whether one of them does nothing but move all points, which centred features do not feel."""
        return any(isinstance(step, SIGN_AUGMENTATIONS["translation"]) for step in self._steps["landmarks"])

    @property
    def keeps_length(self) -> bool:
        """Whether all of them keep the length."""
        return all(step.keeps_length for steps in self._steps.values() for step in steps)

    def waveform(self, waveform: np.ndarray, epoch: int, index: int) -> np.ndarray:
        """Augment a waveform [S]."""
        return self._apply("waveform", waveform, (epoch, index))

    def features(self, features: np.ndarray, epoch: int, index: int, view: int = 0) -> np.ndarray:
        """Augment features [T, F]; another `view` of the same item is drawn anew."""
        return self._apply("features", features, (epoch, index, view))

    def landmarks(self, frames: np.ndarray, epoch: int, index: int, layout: Layout | None = None) -> np.ndarray:
        """Augment the frames of a sign extractor's `read_frames`.

        Args:
            frames: [T, P, C], NaN where missing; or any [T, F], unless `needs_points`.
            epoch, index: of the item.
            layout: of the points.
        """
        known = {} if layout is None else {"layout": layout}
        return self._apply("landmarks", frames, (epoch, index), **known)

    def _apply(self, domain: str, array: np.ndarray, item: tuple[int, ...], **known: Layout) -> np.ndarray:
        epoch, index, *view = item
        generator = np.random.default_rng([self.seed, epoch, index, _STAGES[domain], *filter(None, view)])
        for step in self._steps[domain]:
            array = step(array, generator, **known)
        return array


def build_augmentation(settings: Mapping[str, Mapping[str, Any] | None] | Sequence[str], seed: int = 0) -> Augmentation:
    """Build augmentations from a configuration.

    Args:
        settings: names, or names with options, in the order of their application.
        seed: of the run.

    Raises:
        UserError: for unknown names and options, all at once; for values of those on waveforms that cannot be used.

    Example:
        >>> build_augmentation({"gain": {"highest": 3.0}, "spec_augment": None}, seed=1).keeps_length
        True
    """
    named = settings if isinstance(settings, Mapping) else dict.fromkeys(settings)
    problems = _unknown_names(named)
    for name in set(named).intersection(AUGMENTATIONS):
        known = [field.name for field in fields(AUGMENTATIONS[name])]
        problems += [
            f"'{name}' has no option '{option}'; expected one of {', '.join(known)}"
            for option in named[name] or {}
            if option not in known
        ]
    raise_all(problems, "the augmentation")
    steps = {name: AUGMENTATIONS[name](**(options or {})) for name, options in named.items()}
    found = {name: step.problems() for name, step in steps.items() if step.domain == "waveform"}
    raise_all([f"'{name}': {problem}" for name in found for problem in found[name]], "the augmentation")
    return Augmentation(list(steps.values()), seed)


def check_for_cache(names: Iterable[str]) -> None:
    """Refuse augmentations that cached teacher targets cannot follow.

    Args:
        names: keys of `AUGMENTATIONS`.

    Raises:
        UserError: naming each augmentation that changes the length, or is unknown.
    """
    names = list(names)
    problems = _unknown_names(names)
    problems += [
        f"'{name}' changes the length of an utterance, so cached targets no longer fit its frames; "
        "leave it out, or use live teachers"
        for name in names
        if name in AUGMENTATIONS and not AUGMENTATIONS[name].keeps_length
    ]
    raise_all(problems, "the augmentation with cached targets")


def _unknown_names(names: Iterable[str]) -> list[str]:
    known = ", ".join(AUGMENTATIONS)
    return [f"unknown augmentation '{name}'; expected one of {known}" for name in names if name not in AUGMENTATIONS]


def _bands(generator: np.random.Generator, count: int, widest: int, length: int) -> list[tuple[int, int]]:
    """`count` bands of 0 to `widest` places inside `length`."""
    widths = generator.integers(0, widest + 1, size=count)
    starts = [int(generator.integers(0, length - width + 1)) for width in widths]
    return [(start, start + int(width)) for start, width in zip(starts, widths, strict=True)]
