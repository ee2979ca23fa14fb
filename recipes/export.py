"""Write the student of a run as ONNX, as ONNX with int8 weights, or with torch.export, and check it on real utterances.

python recipes/export.py --run runs/demo/speech-student --format onnx
python recipes/export.py --run runs/demo/speech-student --format int8 --wer_change 0.01
"""

from __future__ import annotations

from pathlib import Path

from kd_asr_slr.command_line import parse
from kd_asr_slr.errors import UserError, run_recipe
from kd_asr_slr.tool_arguments import ExportArguments


def main() -> None:
    """Parse, load the run, write beside the target, compare, and only then put it in its place."""
    (wanted,) = parse([ExportArguments], description=__doc__)

    from kd_asr_slr.decoding.greedy import collapse
    from kd_asr_slr.export.formats import FORMATS, CtcNetwork, export, runner_of
    from kd_asr_slr.export.parity import compare
    from kd_asr_slr.files import temporary_path
    from kd_asr_slr.models.auto import load_model
    from kd_asr_slr.processing.auto import load_processor
    from kd_asr_slr.processing.collator import Collator
    from kd_asr_slr.reporting.run_folder import RunFolder
    from kd_asr_slr.scoring.protocols import get_protocol
    from kd_asr_slr.scoring.rates import wer
    from kd_asr_slr.scoring.score import count_rows
    from kd_asr_slr.training.data import data_of, evaluation_items, load_data, protocol_of, training_part
    from kd_asr_slr.training.evaluation import batches, prediction_of
    from kd_asr_slr.training.terminal import quiet_libraries

    quiet_libraries()
    run = RunFolder(str(wanted.run))
    data, processor = data_of(run.config()), load_processor(run.path)
    network = CtcNetwork(load_model(str(run.path)))
    split = wanted.split or data.dev_split
    part = training_part(load_data(data, [split]), data, split)
    rows = part.select(range(min(wanted.utterances, len(part))))
    found = list(batches(evaluation_items(rows, processor, data), Collator(processor.input_name), wanted.batch_size))
    example = {name: found[0][name][:2] for name in (processor.input_name, "attention_mask")}
    if len(example["attention_mask"]) == 1:  # a batch of one would be taken as one for ever
        example = {name: value.repeat(2, *[1] * (value.dim() - 1)) for name, value in example.items()}

    target = Path(wanted.output or run.path / FORMATS[wanted.format])
    beside = temporary_path(target)
    try:
        written = export(network, example, wanted.format, beside)
        same = compare(
            runner_of(network),
            written,
            found,
            processor.input_name,
            lambda best: processor.decode_labels(collapse(best, processor.blank_id)),
        )
        protocol = get_protocol(protocol_of(data))
        rates = [
            wer(count_rows([prediction_of(row, same.hypotheses[row["id"]][side]) for row in rows], protocol, split))
            for side in (0, 1)
        ]
        change = rates[1] - rates[0]
        if wanted.format == "int8" and change > wanted.wer_change:
            raise UserError(
                f"int8 weights bring the WER on {len(rows)} {split} utterances from {100 * rates[0]:.2f} % to "
                f"{100 * rates[1]:.2f} %",
                expected=f"a rise of at most {100 * wanted.wer_change:g} points",
                fix="export without int8 weights (--format onnx), or allow more (--wer_change)",
            )
        if wanted.format != "int8" and same.difference > wanted.tolerance:
            raise UserError(
                f"the exported network's log-probabilities differ by {same.difference:.2g}",
                expected=f"at most {wanted.tolerance:g} (--tolerance)",
            )
        beside.replace(target)
    finally:
        beside.unlink(missing_ok=True)
    size, weights = target.stat().st_size, 4 * sum(value.numel() for value in network.parameters())
    print(f"{target}  {size / 1e6:.2f} MB, {size / weights:.2f} of the float32 weights")
    print(f"checked on {len(rows)} {split} utterances, {same.frames} frames: largest difference {same.difference:.2g}")
    print(f"WER {100 * rates[0]:.2f} % -> {100 * rates[1]:.2f} %  ({100 * change:+.2f} points)")
    unit = "samples" if processor.input_name == "input_values" else "frames"
    print("{:,.0f} {unit} a second in PyTorch, {:,.0f} exported".format(*same.speeds, unit=unit))


if __name__ == "__main__":
    run_recipe(main)
