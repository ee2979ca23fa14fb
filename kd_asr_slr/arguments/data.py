"""Arguments about the corpus and its splits."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from kd_asr_slr.arguments.fields import one_of, option

SPLIT_POLICIES = ("as_given", "held_out_speaker", "blocks", "prompt_disjoint")
# Which policies look at a setting, the usual one first.
SPLIT_SETTINGS = {
    "held_out_speakers": ("held_out_speaker", "prompt_disjoint"),
    "train_blocks": ("blocks", "held_out_speaker"),
    "test_blocks": ("blocks", "held_out_speaker"),
}


@dataclass
class DataArguments:
    """Which recordings, whose, and which of them train, tune and test."""

    corpus: str = option(
        "manifest", "manifest, uaspeech, torgo, speaker_folders, fsdd, phoenix2014, phoenix2014t, synthetic_sign, ..."
    )
    corpus_name: str | None = option(None, "namespace of the speakers; default: the corpus, or the manifest's folder")
    data_dir: str | None = option(None, "folder of the media; a synthetic corpus is written here")
    manifest: str | None = option(None, "CSV or JSONL with id, path (in data_dir), text, speaker, split")
    corpus_options: dict[str, Any] | str | None = option(None, "options of the corpus, as JSON: speakers, seed, ...")
    split_policy: str = option("as_given", "as_given, held_out_speaker, blocks or prompt_disjoint")
    held_out_speakers: list[str] = option([], "speakers that nobody trains on; their utterances are the test split")
    train_blocks: list[str] = option([], "blocks of words to train on, such as B1 B3 (blocks, held_out_speaker)")
    test_blocks: list[str] = option([], "blocks of words to test on, such as B2 (blocks, held_out_speaker)")
    dev_share: float = option(0.1, "share of each speaker's training utterances that tunes (blocks, prompt_disjoint)")
    test_share: float = option(0.2, "share of the different texts that prompt_disjoint keeps for the test")
    microphones: list[str] = option([], "recordings of these microphones only, such as M5; default: all of them")
    train_speakers: list[str] = option([], "train and tune on these speakers only; default: all of them")
    test_speakers: list[str] = option([], "score these speakers only; default: all of the test split")
    train_split: str = option("train", "name of the split to train on")
    dev_split: str = option("dev", "name of the split to tune on (early stopping, decoding weights)")
    test_split: str = option("test", "name of the split to score")
    untranscribed_speakers: list[str] = option(
        [], "speakers whose recordings teach without their text: soft targets only (distill.py)"
    )
    untranscribed_split: str = option(
        "train", "split of those recordings; test takes the held-out speaker's own (transductive)"
    )
    untranscribed_manifest: str | None = option(
        None, "CSV or JSONL of more such recordings: id, path (in its own folder), speaker; its text is never read"
    )
    normaliser: str = option(
        "words", "text normaliser: none, words (upper case), glosses or raw (case kept), phoenix2014, phoenix2014t"
    )
    protocol: str | None = option(None, "scoring protocol of the run; default: official-sclite for PHOENIX, else words")
    media_check: str = option("full", "before a run: full reads every file, headers looks at them, none trusts them")
    trim_silence_db: float | None = option(
        None, "cut off what lies this far (dB) under a recording's loudest frame, at both ends; 40 is careful"
    )
    feature_cache_mb: int = option(512, "features kept in memory between epochs, in MB")

    def problems(self) -> list[str]:
        """Sentences about values that cannot be used."""
        found = one_of("split_policy", self.split_policy, SPLIT_POLICIES)
        found += one_of("media_check", self.media_check, ("full", "headers", "none"))
        if self.corpus == "manifest" and not self.manifest:
            found.append("no corpus is given; set --manifest FILE.csv, or --corpus synthetic_speech | synthetic_sign")
        if self.corpus != "manifest" and not self.data_dir:
            what = "is written to disk first" if "synthetic" in self.corpus else "has no folder"
            found.append(f"corpus '{self.corpus}' {what}; set --data_dir FOLDER")
        if self.split_policy == "held_out_speaker" and not self.held_out_speakers:
            found.append("split_policy held_out_speaker needs --held_out_speakers NAME [NAME ...]")
        if self.split_policy == "blocks" and not (self.train_blocks and self.test_blocks):
            found.append("split_policy blocks needs --train_blocks NAME [NAME ...] and --test_blocks NAME [NAME ...]")
        found += [
            f"{name} is given but not used; set --split_policy {policies[0]}"
            for name, policies in SPLIT_SETTINGS.items()
            if getattr(self, name) and self.split_policy not in policies
        ]
        found += [
            f"{name} is {getattr(self, name)}; expected more than 0 and less than 1"
            for name in ("dev_share", "test_share")
            if not 0 < getattr(self, name) < 1
        ]
        if self.feature_cache_mb < 0:
            found.append(f"feature_cache_mb is {self.feature_cache_mb}; expected 0 or more")
        if self.trim_silence_db is not None and not 0 < self.trim_silence_db < math.inf:
            found.append(f"trim_silence_db is {self.trim_silence_db}; expected more than 0, such as 40")
        return found
