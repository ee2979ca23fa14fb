"""One batch on its way to a `TeacherSignal`: teachers are run and added one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from kd_asr_slr.errors import UserError
from kd_asr_slr.outputs import CTCOutput, TeacherSignal, decoder_part
from kd_asr_slr.teachers.aggregation import Shares
from kd_asr_slr.teachers.batches import select_rows
from kd_asr_slr.teachers.frozen import FrozenTeacher
from kd_asr_slr.teachers.padding import fill_padding, padding_mask
from kd_asr_slr.teachers.streaming_mean import StreamingMean
from kd_asr_slr.teachers.transcripts import transcript_scores

if TYPE_CHECKING:
    from kd_asr_slr.teachers.pool import TeacherPool


class Combination:
    """What was heard so far of one batch.

    Args:
        pool: whose teachers are heard.
        batch: the collated batch.
        hidden_layers: teacher layers whose hidden states are kept.
        decoder: whether teachers with a decoder run it.
    """

    def __init__(
        self, pool: TeacherPool, batch: dict[str, Any], hidden_layers: Sequence[int], decoder: bool = True
    ) -> None:
        self.pool = pool
        self.batch = batch
        self.hidden_layers = tuple(hidden_layers)
        self.size = len(batch["speakers"])
        self.log_probs = StreamingMean(self.size, pool.aggregation.mean)
        self.decoder: StreamingMean | None = None
        # A decoder is teacher-forced on the labels: without labels it says nothing, and does not run.
        self.inputs = batch if decoder else {name: value for name, value in batch.items() if name != "labels"}
        if "decoder_log_probs" in pool.provides and self.inputs.get("labels") is not None:
            self.decoder = StreamingMean(self.size, pool.aggregation.mean)
        self.hidden: dict[int, torch.Tensor] = {}
        self.lengths = torch.full((self.size,), -1)
        self.decoder_lengths = torch.full((self.size,), -1)
        self.heard: list[str] = []

    def listen(self, teacher: FrozenTeacher, shares: torch.Tensor) -> None:
        """Add a specialist on the rows where its share [B] is not 0."""
        rows = shares.nonzero().squeeze(-1)  # [R]
        if not len(rows):
            return
        output, rows_there = self._run(teacher, rows)
        weights = torch.log(shares[rows]) + self._scores(output, rows)
        self.log_probs.add(output.logits, weights, rows_there, output.logit_lengths)
        if self.decoder is not None:
            logits, lengths = decoder_part(output)
            self.decoder.add(logits, weights, rows_there, lengths)

    def mix(self, generalist: FrozenTeacher, shares: torch.Tensor) -> None:
        """Mix in the generalist on the rows where its share [B] is not 0."""
        rows = shares.nonzero().squeeze(-1)
        if not len(rows):
            return
        output, rows_there = self._run(generalist, rows)
        self.log_probs.mix(output.logits, shares[rows], rows_there, output.logit_lengths)
        if self.decoder is not None:
            logits, lengths = decoder_part(output)
            self.decoder.mix(logits, shares[rows], rows_there, lengths)

    def measure(self, teacher: FrozenTeacher, silent: torch.Tensor) -> None:
        """Lengths of the rows nobody speaks for; what `teacher` says of them is overwritten with padding later."""
        self.mix(teacher, silent.double())

    def signal(self, shares: Shares) -> TeacherSignal:
        """The combined signal; padding and silent rows are uniform."""
        device = self.batch["attention_mask"].device
        speaking = (~shares.silent).to(device)
        lengths, decoder_lengths = self.lengths.to(device), self.decoder_lengths.to(device)
        log_probs = fill_padding(self.log_probs.log_probs(), lengths * speaking)
        decoder = None
        if self.decoder is not None:
            decoder = fill_padding(self.decoder.log_probs(), decoder_lengths * speaking)
        return TeacherSignal(
            log_probs=log_probs,
            lengths=lengths,
            vocabulary=self.pool.vocabulary,
            frame_seconds=self.pool.frame_seconds,
            weight=speaking.float(),
            decoder_log_probs=decoder,
            decoder_lengths=decoder_lengths if decoder is not None else None,
            hidden_states=self._hidden_states(lengths * speaking) if self.hidden_layers else None,
        )

    def _hidden_states(self, lengths: torch.Tensor) -> dict[int, torch.Tensor]:
        padding = {layer: padding_mask(lengths, states.shape[1]) for layer, states in self.hidden.items()}
        return {layer: states.masked_fill_(padding[layer][..., None], 0.0) for layer, states in self.hidden.items()}

    def _run(self, teacher: FrozenTeacher, rows: torch.Tensor) -> tuple[CTCOutput, torch.Tensor | None]:
        everyone = len(rows) == self.size
        batch = self.inputs if everyone else select_rows(self.inputs, rows)
        output = teacher(batch, output_hidden_states=bool(self.hidden_layers))
        _record(self.lengths, rows, output.logit_lengths, "frames", teacher.name, self)
        if self.decoder is not None:
            _record(self.decoder_lengths, rows, decoder_part(output)[1], "decoder positions", teacher.name, self)
        self.heard.append(teacher.name)
        self._keep_hidden(teacher, output, rows)
        return output, None if everyone else rows.to(output.logits.device)

    def _scores(self, output: CTCOutput, rows: torch.Tensor) -> torch.Tensor | float:
        if not self.pool.aggregation.scored:
            return 0.0
        if self.batch.get("labels") is None:
            raise UserError(
                "aggregation 'gate' weighs teachers by their transcript loss, and this batch has no labels",
                expected="transcribed utterances",
                fix="choose an aggregation that needs no transcripts, such as route or logprob_mean",
            )
        log_probs = torch.log_softmax(output.logits.float(), dim=-1)
        labels = self.batch["labels"][rows.to(self.batch["labels"].device)]
        temperature = self.pool.settings.gate_temperature
        scores = transcript_scores(log_probs, output.logit_lengths, labels, self.pool.blank_id, temperature)
        return scores.cpu().double()

    def _keep_hidden(self, teacher: FrozenTeacher, output: CTCOutput, rows: torch.Tensor) -> None:
        layers = output.hidden_states or ()
        for layer in self.hidden_layers:
            if not 0 <= layer < len(layers):
                raise UserError(
                    f"hidden layer {layer} was asked of teacher {teacher.name}",
                    expected=f"a layer between 0 and {len(layers) - 1}",
                    fix="correct layer_map",
                )
            states = layers[layer].float()  # [R, T, D]
            kept = self.hidden.get(layer)
            if kept is None:
                kept = states.new_zeros(self.size, *states.shape[1:])  # [B, T, D]
            elif kept.shape[2] != states.shape[2]:
                raise UserError(
                    f"hidden layer {layer} of teacher {teacher.name} is {states.shape[2]} wide and"
                    f" {kept.shape[2]} wide in {', '.join(self.heard[:-1])}",
                    expected="one width, since one projection serves all teachers",
                )
            extra = states.shape[1] - kept.shape[1]
            kept = torch.nn.functional.pad(kept, (0, 0, 0, max(extra, 0)))
            kept[rows.to(kept.device), : states.shape[1]] = states
            self.hidden[layer] = kept


def _record(
    known: torch.Tensor, rows: torch.Tensor, lengths: torch.Tensor, unit: str, name: str, combination: Combination
) -> None:
    """Write the lengths [R] of one teacher into `known` [B]; refuse them where another teacher said otherwise."""
    lengths = lengths.cpu().to(known.dtype)
    clash = ((known[rows] >= 0) & (known[rows] != lengths)).nonzero().flatten()
    if len(clash):
        row = int(clash[0])
        place = int(rows[row])
        raise UserError(
            f"utterance {combination.batch['ids'][place]}: teacher {name} gives {int(lengths[row])} {unit},"
            f" {', '.join(combination.heard)} {int(known[place])}",
            expected="teachers of one length",
            fix="use teachers with the same features and subsampling",
        )
    known[rows] = lengths
