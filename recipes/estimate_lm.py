"""Estimate an n-gram language model (interpolated modified Kneser-Ney) and write it as an ARPA file for KenLM.

python recipes/estimate_lm.py --run runs/fsdd/student --order 3 --output runs/fsdd/3gram.arpa
python recipes/estimate_lm.py --text glosses.txt --dev_text dev.txt --order 4 --output 4gram.arpa
"""

from __future__ import annotations

from pathlib import Path

from kd_asr_slr.command_line import parse
from kd_asr_slr.errors import run_recipe
from kd_asr_slr.tool_arguments import LmArguments


def main() -> None:
    """Parse, read the sentences, estimate, write, measure."""
    (arguments,) = parse([LmArguments], description=__doc__)

    from kd_asr_slr.decoding.arpa import write_arpa
    from kd_asr_slr.decoding.ngram_estimation import estimate_ngrams
    from kd_asr_slr.decoding.ngram_scorer import load_kenlm
    from kd_asr_slr.decoding.perplexity import perplexity
    from kd_asr_slr.training.language_model import check_labels, describe, lm_texts
    from kd_asr_slr.training.terminal import quiet_libraries

    quiet_libraries()
    texts = lm_texts(arguments)
    estimated = estimate_ngrams(texts.training, arguments.order, texts.labels or ())
    coverage = check_labels(texts.labels, estimated, Path(arguments.output))
    path = write_arpa(estimated.model, arguments.output)
    print(f"{path}: {describe(estimated)}\n{coverage}")
    model = load_kenlm(path)
    if texts.dev is not None:
        print(f"dev: {perplexity(model, texts.dev)}")


if __name__ == "__main__":
    run_recipe(main)
