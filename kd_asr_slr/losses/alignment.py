"""Forced alignment of a batch: the frames that a CTC network gives to each label of its transcript."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from kd_asr_slr.kernels.dispatch import applies, in_threads, within
from kd_asr_slr.losses.masking import length_mask


@torch.no_grad()
def label_frames(
    sides: Sequence[tuple[torch.Tensor, torch.Tensor]], labels: torch.Tensor, blank_id: int
) -> list[torch.Tensor]:
    """The best CTC path of each transcript, for several networks, all utterances at once.

    `decoding.forced_alignment.best_path` is the same for one utterance in numpy. That one is for decoding, where there
    is no torch; here a batch on its device is aligned in every training step.

    Args:
        sides: of each network ([B, T, V] logits or log-probabilities, [B] valid frames); the best path does not depend
            on what is common to a frame, and padding is not read.
        labels: [B, U], padded with -100 at the end.
        blank_id: index of the blank.

    Returns:
        [B, T] of each network, for every frame the position of its label in the transcript, or -1: a blank, padding, or
        an utterance that is too short for its transcript.

    Source:
        The Viterbi form of the CTC forward recursion, Graves et al. 2006, section 4.1.

    Example:
        >>> logits = torch.tensor([[[0.1, 0.9], [0.8, 0.2]]]).log()
        >>> label_frames([(logits, torch.tensor([2]))], torch.tensor([[1]]), blank_id=0)
        [tensor([[ 0, -1]])]
    """
    counts = (labels >= 0).sum(1)  # [B]
    if applies(*(logits for logits, _ in sides)) and _exist(sides, labels, blank_id):
        return [_compiled(*side, labels, counts, blank_id) for side in sides]
    states = torch.full((len(labels), 2 * labels.shape[1] + 1), blank_id, device=labels.device)  # [B, S]
    states[:, 1::2] = labels.clamp(min=0)
    skips = F.pad((states[:, 2:] != states[:, :-2]) & (states[:, 2:] != blank_id), (2, 0))  # [B, S]
    unknown = torch.arange(states.shape[1], device=states.device) > 2 * counts.unsqueeze(1)  # [B, S]
    sizes = [logits.shape[1] for logits, _ in sides]
    emissions = [_emissions(logits, states, unknown, max(sizes)) for logits, _ in sides]
    skips, counts = skips[:, : states.shape[1]].repeat(len(sides), 1), counts.repeat(len(sides))
    paths = _best_paths(torch.cat(emissions), torch.cat([lengths for _, lengths in sides]), skips, counts)
    return [path[:, :size] for path, size in zip(paths.chunk(len(sides)), sizes, strict=True)]


def _exist(sides: Sequence[tuple[torch.Tensor, torch.Tensor]], labels: torch.Tensor, blank_id: int) -> bool:
    """Whether all classes and frames do; where one does not, torch says so."""
    classes = torch.cat([labels.flatten(), labels.new_tensor([blank_id])]).clamp(min=0)
    return all(within(logits.shape[2], classes) and within(logits.shape[1] + 1, lengths) for logits, lengths in sides)


def _compiled(
    logits: torch.Tensor, lengths: torch.Tensor, labels: torch.Tensor, counts: torch.Tensor, blank_id: int
) -> torch.Tensor:
    """The label of every frame, [B, T], in one loop over the utterances."""
    from kd_asr_slr.kernels.paths import best_paths

    path = torch.full(logits.shape[:2], -1)
    size = logits.shape[1] * 2 * labels.shape[1]
    in_threads(best_paths, len(logits), size, logits, lengths, labels, counts, blank_id, path)
    return path


def _emissions(logits: torch.Tensor, states: torch.Tensor, unknown: torch.Tensor, size: int) -> torch.Tensor:
    """The scores of the states, -inf behind the transcript, padded in time: [B, size, S]."""
    found = logits.gather(2, states.unsqueeze(1).expand(-1, logits.shape[1], -1)).double()
    return F.pad(found.masked_fill(unknown.unsqueeze(1), -torch.inf), (0, 0, 0, size - logits.shape[1]))


def _best_paths(
    emissions: torch.Tensor, lengths: torch.Tensor, skips: torch.Tensor, counts: torch.Tensor
) -> torch.Tensor:
    """The label of every frame, [B, T]."""
    places = torch.arange(emissions.shape[2], device=emissions.device)  # [S]
    scores, steps = _forward(emissions, skips)
    inside = length_mask(lengths, emissions.shape[1])  # [B, T]
    steps = torch.minimum(steps, places) * inside.T.unsqueeze(2)  # [T, B, S]; in padding the path stands still
    # The path ends in the last label or in the blank behind it.
    ends = torch.stack([2 * counts - 1, 2 * counts], 1).clamp(min=0)  # [B, 2]
    finals = scores[lengths, torch.arange(len(lengths), device=lengths.device)].gather(1, ends)
    state, path = ends.gather(1, finals.argmax(1, keepdim=True)), []  # [B, 1]
    for step in reversed(steps.unbind(0)):
        path.append(state)
        state = state - step.gather(1, state)
    states = torch.cat(path[::-1], 1) if path else inside.long()  # [B, T]
    found = (finals.amax(1) > -torch.inf).unsqueeze(1) & inside & (states % 2 == 1)
    return torch.where(found, states.div(2, rounding_mode="floor"), -1)


def _forward(emissions: torch.Tensor, skips: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The best score of each state after every frame, [T + 1, B, S], and how many states back it came from, [T, B, S].

    Args:
        emissions: [B, T, S].
        skips: [B, S], whether a label may follow the one before without a blank.
    """
    count, frames, states = emissions.shape
    scores = emissions.new_full((frames + 1, count, states + 2), -torch.inf)  # in front of the first state two of -inf
    scores[0, :, 2] = 0.0  # before the first frame; from there it goes to the first blank or the first label
    stay, step, skip = scores[..., 2:], scores[..., 1:-1], scores[..., :-2]  # of every state, where it comes from
    barred = torch.where(skips, 0.0, -torch.inf).to(scores.dtype)
    befores = (side[:-1].unbind(0) for side in (stay, step, skip))
    for stays, steps, skipped, emission, after in zip(*befores, emissions.unbind(1), stay[1:].unbind(0), strict=True):
        torch.maximum(stays, steps, out=after)
        torch.maximum(after, skipped + barred, out=after)
        after.add_(emission)
    stay, step, skip = stay[:-1], step[:-1], skip[:-1] + barred
    back = torch.where((stay >= step) & (stay >= skip), 0, torch.where(step >= skip, 1, 2))
    return scores[..., 2:], back
