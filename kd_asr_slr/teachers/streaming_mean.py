"""Several distributions become one, in one running [B, T, V]; the K distributions never exist side by side."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from kd_asr_slr.blocks import rows_at_once
from kd_asr_slr.kernels.buffers import BUFFERS
from kd_asr_slr.kernels.dispatch import applies, in_threads
from kd_asr_slr.outputs import given

HELD = 2  # teachers whose logits are kept back at most


@dataclass(frozen=True)
class _Part:
    """One teacher's logits [R, T, V]; `row_of` says which row speaks for which utterance, None: each for its own."""

    logits: torch.Tensor
    log_weights: torch.Tensor  # [B], float64 on the processor; -inf where it is not heard
    row_of: dict[int, int] | None

    def speaks_for(self, utterance: int) -> bool:
        return self.row_of is None or utterance in self.row_of

    def fits(self, mean: torch.Tensor) -> bool:
        """Whether there are logits of each utterance and class; a compiled loop does not ask."""
        utterances = len(mean) if self.row_of is None else len(self.row_of)
        return len(self.logits) == utterances and self.logits.shape[2] == mean.shape[2]

    def frames(self, utterances: slice, frames: slice) -> torch.Tensor:
        """The logits of some frames; fewer where this network padded to fewer."""
        if self.row_of is None:
            return self.logits[utterances, frames]
        row = self.row_of[utterances.start]
        return self.logits[row : row + 1, frames]

    def addresses(self, count: int) -> list[int]:
        """Where the logits of each of so many utterances begin in memory; 0 where it does not speak for one."""
        first, step = self.logits.data_ptr(), self.logits.stride(0) * self.logits.element_size()
        rows = range(count) if self.row_of is None else self.row_of
        return [first + rows[utterance] * step if utterance in rows else 0 for utterance in range(count)]


_Piece = tuple[torch.Tensor, torch.Tensor]  # a teacher's logits of a block, and its share there


class StreamingMean:
    """Weighted mean over teachers of distributions, in one running [B, T, V].

    Weights come as unnormalised logarithms, so that a gate's scores need not be known in advance: after every `add`
    the accumulator stands for the mean of what was added so far.

    For "log" the mean of logits is kept, because log_softmax(sum_k w_k log_softmax(z_k)) = log_softmax(sum_k w_k z_k)
    where the weights sum to 1. For "probability" it is the logarithm of the mean of probabilities.

    What it costs is the way of the numbers through the memory. So a few teachers are kept back and go into the mean
    together, block by block in the cache, and the last ones on the way to `log_probs`; padding is left alone.

    Args:
        batch_size: B.
        mean: "log" or "probability".
        held: teachers that are kept back; each holds its logits, which must not be changed meanwhile. A caller who has
            all logits anyway does best with their number.

    Example:
        >>> mean = StreamingMean(batch_size=1, mean="log")
        >>> mean.add(torch.zeros(1, 1, 2), torch.zeros(1))
        >>> mean.log_probs().exp()
        tensor([[[0.5000, 0.5000]]])
    """

    def __init__(self, batch_size: int, mean: str, held: int = HELD) -> None:
        if mean not in ("log", "probability"):
            raise ValueError(f"mean is '{mean}'; expected 'log' or 'probability'")
        self.batch_size = batch_size
        self.mean = mean
        self.held = held
        self._waiting: list[_Part] = []
        self._mean: torch.Tensor | None = None  # [B, T, V]
        self._log_total = torch.full((batch_size,), -math.inf, dtype=torch.float64)  # of the weights in the mean
        self._valid = [0] * batch_size  # frames of each utterance that anybody spoke for

    def add(
        self,
        logits: torch.Tensor,
        log_weights: torch.Tensor,
        rows: torch.Tensor | None = None,
        lengths: torch.Tensor | None = None,
    ) -> None:
        """Add one teacher.

        Args:
            logits: [R, T, V], raw and finite in valid frames.
            log_weights: [R], logarithms of unnormalised weights, finite.
            rows: [R], the utterances it speaks for; None means all B of them.
            lengths: [R], valid frames; None: all of them. What lies behind them in the mean has no meaning, but it is
                uniform where no teacher was said to speak.
        """
        self._waiting.append(self._part(logits, log_weights, rows, lengths))
        if len(self._waiting) > self.held:
            self._add_waiting()

    def mix(
        self,
        logits: torch.Tensor,
        shares: torch.Tensor,
        rows: torch.Tensor | None = None,
        lengths: torch.Tensor | None = None,
    ) -> None:
        """Replace the mean m by (1 - share) * m + share * this teacher; call it once, after the last `add`.

        Args:
            logits: [R, T, V].
            shares: [R], between 0 and 1; 1 where nothing was added before.
            rows: [R], the utterances it speaks for; None means all B of them.
            lengths: [R], valid frames; None: all of them.
        """
        self._add_waiting()
        part = self._part(logits, torch.log(shares.double()), rows, lengths)
        share = part.log_weights.exp()  # [B]
        self._blend([part], torch.stack([1 - share, share]))

    def log_probs(self) -> torch.Tensor:
        """[B, T, V], float32, normalised. The accumulator is handed over: do not add to it afterwards."""
        if self._mean is None and not self._waiting:
            raise ValueError("no teacher was added")
        self._add_waiting(last=True)
        return given(self._mean, "the mean")

    def _part(
        self, logits: torch.Tensor, log_weights: torch.Tensor, rows: torch.Tensor | None, lengths: torch.Tensor | None
    ) -> _Part:
        log_weights = log_weights.detach().to("cpu", torch.float64)
        utterances = range(self.batch_size) if rows is None else rows.tolist()
        valid = [logits.shape[1]] * len(utterances) if lengths is None else lengths.tolist()
        for utterance, length in zip(utterances, valid, strict=True):
            self._valid[utterance] = max(self._valid[utterance], length)
        if rows is None:
            return _Part(logits, log_weights, None)
        spread = torch.full((self.batch_size,), -math.inf, dtype=torch.float64)
        spread[rows.cpu()] = log_weights
        return _Part(logits, spread, {utterance: row for row, utterance in enumerate(utterances)})

    def _add_waiting(self, last: bool = False) -> None:
        """Let the teachers that wait into the mean; the last time it is normalised on the way."""
        if not self._waiting and not last:
            return
        log_weights = torch.stack([self._log_total, *(part.log_weights for part in self._waiting)])  # [1 + P, B]
        total = torch.logsumexp(log_weights, 0)
        shares = torch.exp(log_weights - total).nan_to_num_(0.0)  # where nobody was heard there is no share
        parts, self._waiting, self._log_total = self._waiting, [], total
        self._blend(parts, shares, last)

    def _blend(self, parts: Sequence[_Part], shares: torch.Tensor, last: bool = False) -> None:
        """mean = shares[0] * mean + sum over p of shares[1 + p] * part p; shares is [1 + P, B]."""
        before = self._make_room(parts)
        mean = given(self._mean, "the mean")
        fit = all(part.fits(mean) for part in parts)  # where one does not, torch says so
        if self.mean == "log" and fit and applies(mean, *(part.logits for part in parts)):
            self._blend_compiled(parts, shares, before, last)
            return
        for utterance, valid in enumerate(self._valid if before < mean.shape[1] else ()):
            mean[utterance, max(valid, before) :] = -math.log(mean.shape[2])
        old = (shares[0] > 0).tolist()
        together = all(part.row_of is None for part in parts) and len(set(old)) == 1
        coefficients = shares.to(mean.device, torch.float32)[..., None, None]  # [1 + P, B, 1, 1]
        for utterances, frames in self._segments(mean, together):
            block = mean[utterances, frames]  # [B', T', V]
            pieces = [
                (part.frames(utterances, frames), coefficients[index, utterances])
                for index, part in enumerate(parts, 1)
                if part.speaks_for(utterances.start)
            ]
            if pieces:
                add = self._add_logits if self.mean == "log" else self._add_probabilities
                add(block, coefficients[0, utterances] if old[utterances.start] else None, pieces)
            if last and self.mean == "log":
                torch.log_softmax(block, dim=-1, out=block)  # a row is written after it was read

    def _blend_compiled(self, parts: Sequence[_Part], shares: torch.Tensor, before: int, last: bool) -> None:
        """`_blend` of logits in one loop over the frames, of which so many were there before."""
        from kd_asr_slr.kernels.mean import mean_of_logits

        mean, addresses = given(self._mean, "the mean"), [part.addresses(self.batch_size) for part in parts]
        in_threads(
            mean_of_logits,
            mean.shape[0] * mean.shape[1],
            (1 + len(parts)) * mean.shape[2],
            mean,
            torch.tensor(addresses, dtype=torch.long).view(-1, self.batch_size),
            torch.tensor([part.logits.shape[1] for part in parts], dtype=torch.long),
            shares.float(),
            torch.tensor(self._valid),
            before,
            last,
        )

    def _add_logits(self, block: torch.Tensor, share: torch.Tensor | None, pieces: Sequence[_Piece]) -> None:
        """block * share + sum of the pieces by theirs; where there is no share, whatever stands in the block goes."""
        if share is not None:
            block.mul_(share)
        elif pieces[0][0].shape == block.shape:
            (logits, coefficient), *pieces = pieces
            torch.mul(logits.float(), coefficient, out=block)
        else:
            block.zero_()
        for logits, coefficient in pieces:
            block[:, : logits.shape[1]].addcmul_(logits.float(), coefficient)

    def _add_probabilities(self, block: torch.Tensor, share: torch.Tensor | None, pieces: Sequence[_Piece]) -> None:
        """The same of probabilities, whose logarithms stand in the block."""
        block.fill_(-math.inf) if share is None else block.add_(share.log())
        for logits, coefficient in pieces:
            here = block[:, : logits.shape[1]]
            torch.logaddexp(here, torch.log_softmax(logits.float(), dim=-1).add_(coefficient.log()), out=here)

    def _segments(self, mean: torch.Tensor, together: bool) -> Iterator[tuple[slice, slice]]:
        """(utterances, frames) that are worked on at once.

        Everything where it is little, or on a GPU, and all teachers speak for all; else pieces of single utterances
        that stay in the cache, without padding.
        """
        count, frames, _ = mean.shape
        step = rows_at_once(mean, buffers=1)
        if together and (count * frames <= step or mean.is_cuda):
            yield slice(0, count), slice(0, frames)
            return
        for utterance, valid in enumerate(self._valid):
            for start in range(0, valid, step):
                yield slice(utterance, utterance + 1), slice(start, min(start + step, valid))

    def _make_room(self, parts: Sequence[_Part]) -> int:
        """Room for the frames of these; how many there were before. What is new holds anything."""
        frames = max((part.logits.shape[1] for part in parts), default=0)
        if self._mean is None:
            self._mean = _room(self.batch_size, frames, parts[0].logits)
            return 0
        before = self._mean.shape[1]
        if frames > before:  # another network pads the same utterances to more frames
            self._mean = torch.nn.functional.pad(self._mean, (0, 0, 0, frames - before))
        return before


def _room(count: int, frames: int, like: torch.Tensor) -> torch.Tensor:
    """Float32 for so many frames of utterances, holding anything."""
    shape = count, frames, like.shape[2]
    if like.device.type == "cpu":
        return BUFFERS.take(*shape)
    return like.new_empty(shape, dtype=torch.float32)
