"""Write the student of a run as ONNX, as ONNX with int8 weights, or with torch.export, and check it on real utterances.

python recipes/export.py --run runs/demo/speech-student --format onnx
python recipes/export.py --run runs/demo/speech-student --format int8 --wer_change 0.01
"""

from __future__ import annotations

from pathlib import Path

from kd_asr_slr.command_line import parse
from kd_asr_slr.errors import run_recipe
from kd_asr_slr.tool_arguments import ExportArguments


def main() -> None:
    """Parse, load the run, write beside the target, compare, and only then put it in its place."""
    (wanted,) = parse([ExportArguments], description=__doc__)

    from kd_asr_slr.decoding.greedy import collapse
    from kd_asr_slr.export.formats import FORMATS, CtcNetwork, export, runner_of
    from kd_asr_slr.export.networks import exported_part
    from kd_asr_slr.export.parity import check_float, check_int8, compare
    from kd_asr_slr.files import temporary_path
    from kd_asr_slr.models.auto import load_model
    from kd_asr_slr.processing.auto import load_processor
    from kd_asr_slr.processing.collator import Collator
    from kd_asr_slr.reporting.run_folder import RunFolder
    from kd_asr_slr.training.data import data_of, evaluation_items, load_data, protocol_of, training_part
    from kd_asr_slr.training.evaluation import batches, prediction_of
    from kd_asr_slr.training.terminal import quiet_libraries

    quiet_libraries()
    run = RunFolder(str(wanted.run))
    data, processor, model = data_of(run.config()), load_processor(run.path), load_model(str(run.path))
    part = exported_part(model, processor.input_name)
    split = wanted.split or data.dev_split
    items = training_part(load_data(data, [split]), data, split)
    rows = items.select(range(min(wanted.utterances, len(items))))
    found = list(batches(evaluation_items(rows, processor, data), Collator(processor.input_name), wanted.batch_size))
    example = part.example(found[0][processor.input_name].numpy(), found[0]["attention_mask"].numpy())

    target = Path(wanted.output or run.path / FORMATS[wanted.format])
    beside = temporary_path(target)
    try:
        written = export(part.network, example, wanted.format, beside)
        same = compare(
            runner_of(CtcNetwork(model)),
            written,
            found,
            processor.input_name,
            lambda best: processor.decode_labels(collapse(best, processor.blank_id)),
            part.feed,
        )
        rates = same.rates([prediction_of(row, "") for row in rows], protocol_of(data), split)
        if wanted.format == "int8":
            check_int8(rates, wanted.wer_change, f"{len(rows)} {split} utterances")
        else:
            check_float(same, wanted.tolerance)
        beside.replace(target)
    finally:
        beside.unlink(missing_ok=True)
    size, weights = target.stat().st_size, 4 * sum(value.numel() for value in part.network.parameters())
    print(f"{target}  {size / 1e6:.2f} MB, {size / weights:.2f} of the float32 weights")
    if part.front_end:
        normalised = processor.feature_extractor.normalisation == "utterance"
        features = part.front_end.save(target.with_name(f"{target.stem}-features.npz"), normalised)
        print(f"it takes log-mel features, {part.longest} frames at most: docs/examples/mel_features.py, {features}")
    print(f"checked on {len(rows)} {split} utterances, {same.frames} frames: largest difference {same.difference:.2g}")
    print(f"WER {100 * rates[0]:.2f} % -> {100 * rates[1]:.2f} %  ({100 * (rates[1] - rates[0]):+.2f} points)")
    unit = "samples" if processor.input_name == "input_values" else "frames"
    print("{:,.0f} {unit} a second in PyTorch, {:,.0f} exported".format(*same.speeds, unit=unit))


if __name__ == "__main__":
    run_recipe(main)
