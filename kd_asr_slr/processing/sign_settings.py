"""Which settings of the sign features go together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from kd_asr_slr.processing import landmarks
from kd_asr_slr.processing.layouts import LAYOUTS as POINT_LAYOUTS
from kd_asr_slr.processing.projection import WHOLE

if TYPE_CHECKING:
    from kd_asr_slr.processing.sign import SignFeatureExtractor

LAYOUTS = (*POINT_LAYOUTS, "raw")
VELOCITIES: dict[str, tuple[str, ...]] = {
    "none": (),
    "forward": ("forward",),
    "backward": ("backward",),
    "both": ("forward", "backward"),
}
TEMPORAL = ("drop", "keep")


def problems_of(settings: SignFeatureExtractor) -> list[str]:
    """A sentence for each setting that no features can be made with."""
    problems = [
        *_unknown_names(settings, "layout", "subset"),
        *_bad_numbers(settings),
        *_unknown_names(settings, "velocity", "centre", "temporal"),
    ]
    if settings.layout in LAYOUTS:
        problems += _not_in_layout(settings)
    # Which streams there are follows from the rest.
    return problems or list(_bad_components(settings))


def _unknown_names(settings: SignFeatureExtractor, *names: str) -> Iterator[str]:
    subsets = (settings.points_layout or landmarks.HOLISTIC).subsets
    known_names = {
        "layout": LAYOUTS,
        "subset": subsets,
        "velocity": VELOCITIES,
        "centre": landmarks.CENTRES,
        "temporal": TEMPORAL,
    }
    for name in names:
        value, known = getattr(settings, name), known_names[name]
        if value not in known:
            where = f" of the layout '{settings.layout}'" if name == "subset" and settings.points_layout else ""
            yield f"unknown {name} '{value}'{where}; expected one of {', '.join(known)}"


def _bad_numbers(settings: SignFeatureExtractor) -> Iterator[str]:
    deepest = settings.points_layout.dimensions if settings.points_layout else 3
    if settings.dimensions not in range(2, deepest + 1):
        yield f"dimensions is {settings.dimensions}; expected {'2 or 3' if deepest == 3 else 2}"
    if not settings.frame_seconds > 0:
        yield f"frame_seconds is {settings.frame_seconds}; expected above 0"
    if not _is_count(settings.interpolate_gaps, 0):
        yield f"interpolate_gaps is {settings.interpolate_gaps}; expected a number of frames, 0 or more"
    if not 0 <= settings.min_confidence < 1:
        yield f"min_confidence is {settings.min_confidence}; expected 0 or more, below 1"


def _not_in_layout(settings: SignFeatureExtractor) -> Iterator[str]:
    layout = settings.points_layout
    if (settings.confidence or settings.min_confidence > 0) and not (layout and layout.has_confidence):
        known = ", ".join(name for name, item in POINT_LAYOUTS.items() if item.has_confidence)
        yield f"the layout '{settings.layout}' has no confidence; those with one are {known}"
    if settings.temporal == "keep" and not (layout and layout.temporal):
        known = ", ".join(name for name, item in POINT_LAYOUTS.items() if item.temporal)
        yield f"the layout '{settings.layout}' has no temporal values to keep; those with some are {known}"


def _bad_components(settings: SignFeatureExtractor) -> Iterator[str]:
    chosen = {WHOLE: settings.pca} if not isinstance(settings.pca, Mapping) else settings.pca
    streams: Mapping[str, tuple[int, int | None]]
    streams = settings.base_streams if settings.points_layout else {WHOLE: (0, None)}
    known = streams if isinstance(settings.pca, Mapping) else (WHOLE,)
    for name, count in chosen.items() if settings.pca is not None else ():
        if name not in known:
            yield f"pca names the stream '{name}'; expected one of {', '.join(known)}"
            continue
        if not _is_count(count, 1):
            yield f"pca keeps {count!r} components of '{name}'; expected a number, 1 or more"
            continue
        ends = [stop for _, stop in streams.values() if stop is not None]
        first, last = streams.get(name) or (0, max(ends, default=None))
        if last is not None and isinstance(count, int) and count > last - first:
            yield f"pca keeps {count} components of '{name}', which has {last - first} values"


def _is_count(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least
