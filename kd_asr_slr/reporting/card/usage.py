"""How a model is loaded, where its limits are, under which licence it stands, and what to cite."""

from __future__ import annotations

from typing import Any

from kd_asr_slr import __version__
from kd_asr_slr.reporting.card.context import CardContext

SHORT_COMMIT = 8
PAPERS = {
    "graves2006": (
        "Graves, Alex and Fern{\\'a}ndez, Santiago and Gomez, Faustino and Schmidhuber, J{\\\"u}rgen",
        "Connectionist Temporal Classification: Labelling Unsegmented Sequence Data with Recurrent Neural Networks",
        "Proceedings of the 23rd International Conference on Machine Learning",
        2006,
    ),
    "hinton2015": (
        "Hinton, Geoffrey and Vinyals, Oriol and Dean, Jeff",
        "Distilling the Knowledge in a Neural Network",
        "arXiv:1503.02531",
        2015,
    ),
}


def loading(context: CardContext) -> str:
    """The lines that load it: with transformers alone, as a pipeline, and with this toolkit."""
    parts = [_with_transformers(context)]
    if context.modality == "speech":
        parts.append(_as_pipeline(context))
    parts.append(
        "With `kd_asr_slr` installed:\n\n"
        "```python\n"
        "from kd_asr_slr.models.auto import load_model\n"
        "from kd_asr_slr.processing.auto import load_processor\n"
        f'model, processor = load_model("{context.place}"), load_processor("{context.place}")\n'
        "```"
    )
    return "\n\n".join(parts)


def _with_transformers(context: CardContext) -> str:
    trust = ", trust_remote_code=True" if context.has_code else ""
    media, what = ("waveform", f"mono samples at {context.sampling_rate or 16000} Hz, as a float array")
    rate = f", sampling_rate={context.sampling_rate}" if context.sampling_rate else ""
    if context.modality == "sign":
        media, what = ("frames", "the frames of a video, an array [T, F] in the layout it was trained on")
    lines = [f"With transformers alone (`pip install {' '.join(['torch', 'transformers', *context.packages])}`):", ""]
    lines += [
        "```python",
        "from transformers import AutoModelForCTC, AutoProcessor",
        f'model = AutoModelForCTC.from_pretrained("{context.place}"{trust})',
        f'processor = AutoProcessor.from_pretrained("{context.place}"{trust})',
        f'inputs = processor({media}{rate}, return_tensors="pt")  # {what}',
        "texts = processor.batch_decode(model(**inputs).logits.argmax(-1))",
        "```",
    ]
    if context.has_code:
        lines += [
            "",
            "`trust_remote_code` runs the Python files beside the weights. Read them, and pin `revision=` to a commit.",
        ]
    if "'nemo_toolkit[asr]'" in context.packages:
        lines += ["", "Its encoder is NeMo's: without NeMo the model cannot be built, and says so."]
    return "\n".join(lines)


def _as_pipeline(context: CardContext) -> str:
    trust = ", trust_remote_code=True" if context.has_code else ""
    return (
        "As a pipeline, for arrays and (with ffmpeg) audio files:\n\n"
        "```python\n"
        "from transformers import pipeline\n"
        f'recognise = pipeline("automatic-speech-recognition", model="{context.place}"{trust})\n'
        'text = recognise("speech.wav")["text"]\n'
        "```"
    )


def limits(results: dict[str, Any]) -> str:
    """What the scores do not say."""
    lines = [
        f"- The scores hold for the corpus {results['corpus']}, its splits and the protocol named above, and for no "
        "other recording conditions, speakers or label sets.",
        "- It writes labels of its own vocabulary only; anything else is recognised as one of them or not at all.",
        f"- One run with seed {results['seed']}: the interval covers the choice of utterances, not that of the seed.",
    ]
    tokens = min((score["reference_tokens"] for score in results["scores"]), default=None)
    if tokens is not None and tokens < 1000:
        lines.append(f"- A small test: {tokens} reference tokens; differences of a few points are chance.")
    if results["corpus"].startswith("synthetic"):
        lines.append("- The corpus is synthetic: a test of the method, not a recogniser for people.")
    return "\n".join(lines)


def licence(results: dict[str, Any], context: CardContext) -> str:
    """Of the weights, where it was stated, and of the code."""
    stated = (
        f"The weights: `{context.licence}`."
        if context.licence
        else f"None was stated for the weights. They follow from the corpus {results['corpus']}"
        + (" and from the teachers" if results["teachers"] else "")
        + ", whose terms hold; ask who published them."
    )
    return stated + (" The code beside them is kd_asr_slr's: Apache-2.0." if context.has_code else "")


def citation(results: dict[str, Any]) -> str:
    """BibTeX: the toolkit, CTC, and distillation where there was any."""
    entries = [
        "@software{kd_asr_slr,\n"
        "  title = {kd\\_asr\\_slr: Knowledge Distillation for Recognisers of Speech and Sign Language},\n"
        f"  version = {{{__version__}}}\n}}"
    ]
    for key in ("graves2006", *(["hinton2015"] if results["teachers"] else [])):
        author, title, place, year = PAPERS[key]
        entries.append(
            f"@inproceedings{{{key},\n  author = {{{author}}},\n  title = {{{title}}},\n"
            f"  booktitle = {{{place}}},\n  year = {{{year}}}\n}}"
        )
    return "```bibtex\n" + "\n".join(entries) + "\n```"


def linked_teacher(name: str, context: CardContext) -> str:
    """A teacher's name, linked where the hub has it."""
    repository, _, commit = context.teachers.get(name, "").partition("@")
    if not repository:
        return f"`{name}`"
    tree = f"/tree/{commit}" if commit else ""
    shown = f" (commit {commit[:SHORT_COMMIT]})" if commit else ""
    return f"[`{repository}`](https://huggingface.co/{repository}{tree}){shown}"
