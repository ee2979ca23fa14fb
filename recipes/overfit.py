"""Can this model learn five utterances by heart? If not, no amount of data will help.

python recipes/overfit.py --config configs/phoenix/bilstm_baseline.yaml --utterances 5 --epochs 300
"""

from __future__ import annotations

import tempfile

from kd_asr_slr.arguments import DataArguments, DistillationArguments, ModelArguments
from kd_asr_slr.command_line import parse
from kd_asr_slr.errors import UserError, run_recipe
from kd_asr_slr.tool_arguments import OverfitArguments


def main() -> None:
    """Parse, take a few utterances, train without regularisation, say after how many epochs they are known."""
    data, model, training, overfitting = parse(
        [DataArguments, ModelArguments, DistillationArguments, OverfitArguments], description=__doc__
    )

    from kd_asr_slr.training.data import load_data
    from kd_asr_slr.training.overfitting import few_utterances, overfit, without_regularisation
    from kd_asr_slr.training.session import announce
    from kd_asr_slr.training.student import build_processor, build_student

    announce(training)
    corpus = load_data(data)
    few = few_utterances(corpus, data, overfitting.utterances)
    with tempfile.TemporaryDirectory() as folder:
        without_regularisation(model, training, folder, overfitting.epochs)
        processor = build_processor(model, data, corpus)
        student = build_student(model, processor, seed=training.seed)
        epochs = overfit(student, processor, few, data, training)
    if epochs is None:
        raise UserError(
            f"{overfitting.utterances} utterances are not at 0 % WER after {overfitting.epochs} epochs",
            expected="a model that can learn them by heart",
            fix="try another --learning_rate, more --epochs, or look at features and labels",
        )
    print(f"{overfitting.utterances} utterances at 0 % WER after {epochs} epochs")


if __name__ == "__main__":
    run_recipe(main)
