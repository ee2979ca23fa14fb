"""What a run can be told: one dataclass per concern, and nothing else holds a default.

YAML files set only what differs from these defaults, the command line wins over YAML (see `command_line.py`).
Every class has `problems()`, a list of sentences, so that all of them can be reported at once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from transformers import TrainingArguments

from kd_asr_slr.stages import Stage, read_stages, stage_problems

SPLIT_POLICIES = ("as_given", "held_out_speaker", "blocks", "prompt_disjoint")
# Which policies look at a setting, the usual one first.
SPLIT_SETTINGS = {
    "held_out_speakers": ("held_out_speaker", "prompt_disjoint"),
    "train_blocks": ("blocks", "held_out_speaker"),
    "test_blocks": ("blocks", "held_out_speaker"),
}


def option(default: Any, help: str) -> Any:
    """A dataclass field with its help text; lists and dicts get a fresh default each."""
    if isinstance(default, list | dict):
        return field(default_factory=lambda: type(default)(default), metadata={"help": help})
    return field(default=default, metadata={"help": help})


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


@dataclass
class ModelArguments:
    """Which network, from which weights, hearing or seeing what, writing which labels."""

    model: str = option("bilstm", "a type to build (bilstm, nemo_hybrid), or a run folder or hub name to start from")
    model_revision: str | None = option(None, "revision of a hub name")
    model_options: dict[str, Any] | str | None = option(None, "options of the model's configuration, as JSON")
    pretrained_encoder: str | None = option(
        None, "encoder weights of a model to build: a .nemo file, or a NeMo name on the hub (nemo_hybrid)"
    )
    features: str | None = option(
        None,
        "log_mel or waveform for speech, raw or a landmark layout (mediapipe_holistic, coco_wholebody, ...) for sign; "
        "default: what the model takes",
    )
    feature_options: dict[str, Any] | str | None = option(None, "options of the feature extractor, as JSON")
    tokenizer_kind: str = option("words", "labels are words (or glosses), characters, or pieces (SentencePiece)")
    vocabulary_size: int | None = option(None, "pieces: how many tokens, blank and special tokens included")
    piece_algorithm: str = option("unigram", "pieces: unigram or bpe")
    vocabulary: str | None = option(
        None,
        "a word list (one label a line), a SentencePiece .model or SpeechBrain's tokenizer.ckpt, a run folder to share "
        "labels with, or glosses as cleaned, raw or vac1296; default: the training transcripts",
    )

    def problems(self) -> list[str]:
        """Sentences about values that cannot be used."""
        found = one_of("tokenizer_kind", self.tokenizer_kind, ("words", "characters", "pieces"))
        found += one_of("piece_algorithm", self.piece_algorithm, ("unigram", "bpe"))
        if self.tokenizer_kind == "pieces":
            if self.vocabulary_size is None and self.vocabulary is None:
                found.append("tokenizer_kind pieces needs a size; set --vocabulary_size N, or --vocabulary FILE.model")
        elif self.vocabulary_size is not None:
            found.append(
                f"vocabulary_size is {self.vocabulary_size} and tokenizer_kind '{self.tokenizer_kind}' has no use for "
                "it; set --tokenizer_kind pieces"
            )
        return found + (at_least(self, 2, "vocabulary_size") if self.vocabulary_size is not None else [])


@dataclass
class TeacherArguments:
    """Who teaches, who may speak for which utterance, and how several become one."""

    teachers: list[str] = option([], "run folders or hub names; SPEAKER=FOLDER binds a teacher to a speaker")
    teacher_cache: str | None = option(
        None,
        "folder of soft targets: cache_teachers.py writes it, distill.py reads it instead of teachers",
    )
    cache_dtype: str = option("float16", "float16, or float32 (twice the bytes, bit for bit the live teacher)")
    cache_format: str = option(
        "dense", "dense (cache_dtype), or quantised (8 bits a class and the 16 largest as they are): half the bytes"
    )
    cache_shard_size: int = option(256, "utterances a shard; a killed run loses at most one shard per process")
    cache_hidden_layers: list[int] = option([], "teacher layers whose hidden states are stored too")
    aggregation: str = option("route", "route, gate, logprob_mean, prob_mean, logit_mean, best or weighted")
    teacher_matching: str = option(
        "all",
        "whom a mean asks about an utterance: all; partial (teachers whose training data have its text, at least "
        "min_teachers of them); strict (only utterances that all of them have)",
    )
    min_teachers: int = option(1, "partial: teachers that must have an utterance")
    gate_temperature: float = option(0.1, "tau of gate: weights = softmax(-transcript loss per frame / tau)")
    weighting_temperature: float = option(0.1, "temperature of weighted: weights = softmax(-dev WER / temperature)")
    unknown_speaker: str = option("error", "a speaker without a teacher: error, generalist, logprob_mean or skip")
    generalist: str | None = option(None, "run folder or hub name of a teacher that knows every speaker")
    generalist_weight: float = option(0.0, "share of the generalist in every target, 0 to 1")
    held_out_as_teacher: bool = option(
        False, "let a teacher be bound to a held-out speaker: a debug run, whose score is none on an unseen speaker"
    )
    teacher_dtype: str = option("float32", "precision the teachers run in: float32, bfloat16 or float16")
    baseline_run: str | None = option(None, "run of the label-only student: a teacher worse than it stops the run")
    allow_worse_teacher: bool = option(False, "go on although a teacher is worse than the baseline")

    def problems(self) -> list[str]:
        """Sentences about values that cannot be used."""
        found = one_of("unknown_speaker", self.unknown_speaker, ("error", "generalist", "logprob_mean", "skip"))
        found += one_of("teacher_matching", self.teacher_matching, ("all", "partial", "strict"))
        if self.min_teachers != 1 and self.teacher_matching != "partial":
            found.append(
                f"min_teachers is {self.min_teachers} and teacher_matching '{self.teacher_matching}' has no use for "
                "it; set --teacher_matching partial"
            )
        found += at_least(self, 1, "min_teachers")
        found += one_of("teacher_dtype", self.teacher_dtype, ("float32", "bfloat16", "float16"))
        found += one_of("cache_dtype", self.cache_dtype, ("float16", "float32"))
        found += one_of("cache_format", self.cache_format, ("dense", "quantised"))
        if not self.teachers and not self.teacher_cache and not self.generalist:
            found.append("no teachers are given; set --teachers FOLDER [FOLDER ...] or --teacher_cache FOLDER")
        if self.cache_shard_size < 1:
            found.append(f"cache_shard_size is {self.cache_shard_size}; expected 1 or more")
        for name in ("gate_temperature", "weighting_temperature"):
            if getattr(self, name) <= 0:
                found.append(f"{name} is {getattr(self, name)}; expected more than 0")
        if not 0 <= self.generalist_weight <= 1:
            found.append(f"generalist_weight is {self.generalist_weight}; expected 0 to 1")
        return found


@dataclass
class DistillationArguments(TrainingArguments):
    """transformers' `TrainingArguments`, and what distillation adds to them.

    Changed defaults: columns are kept (`remove_unused_columns`), evaluation and checkpoints every epoch, the best
    checkpoint by WER is the student, TensorBoard is written, best and last checkpoint are kept.
    """

    output_dir: str | None = option(None, "the run folder")
    overwrite_output_dir: bool = option(False, "throw away the run that is in output_dir and start again")
    remove_unused_columns: bool = option(False, "must stay false: ids, speakers and cached targets travel in the batch")
    eval_strategy: str = option("epoch", "when dev is scored: no, steps or epoch")
    save_strategy: str = option("epoch", "when a checkpoint is written: no, steps, epoch or best")
    save_total_limit: int | None = option(2, "checkpoints kept: the best and the last")
    load_best_model_at_end: bool = option(True, "the student is the best checkpoint, not the last")
    metric_for_best_model: str | None = option("wer", "what best means: wer or loss (lower), wra (higher)")
    greater_is_better: bool | None = option(None, "default: false for wer and loss, true for wra")
    logging_strategy: str = option("epoch", "when loss parts are logged: steps or epoch")
    restore_callback_states_from_checkpoint: bool = option(True, "a run taken up again keeps its early-stopping count")
    report_to: list[str] = option(["tensorboard"], "tensorboard, wandb, trackio, none")
    num_train_epochs: float | None = option(None, "default: the epochs of all stages; without stages 3")
    stages: list[str] = option(
        [],
        'stages of the training, each as JSON: {"epochs": 5, "freeze": ["encoder"], "learning_rate": 3e-4, '
        '"lr_scheduler_type": "constant, linear, cosine or noam", "warmup_steps": 0}',
    )
    freeze_modules: list[str] = option([], "modules or parameters of the student that keep their weights all along")
    curriculum: str = option("none", "easy utterances first (distill.py): none, linear, sqrt or step")
    curriculum_epochs: int = option(10, "epochs until the curriculum draws every utterance")
    curriculum_start: float = option(0.3, "share of the utterances, the easiest, that it draws in the first epoch")

    alpha: float = option(0.7, "weight of the soft losses (teacher)")
    beta: float = option(0.3, "weight of the hard losses (labels); 0 is a pure-KD run")
    gamma: float = option(0.0, "weight of the feature losses (hidden states)")
    soft_losses: list[str] = option(["ctc_kd"], "ctc_kd, decoder_kd")
    hard_losses: list[str] = option(["ctc"], "ctc, cross_entropy")
    feature_losses: list[str] = option([], "hidden")
    ctc_share: float = option(0.5, "share of CTC against decoder, inside soft and inside hard, where both are used")
    temperature: float = option(2.0, "temperature of the soft losses at the start; 1 at evaluation")
    temperature_milestones: dict[str, Any] | str | None = option(
        None, 'epochs at which the temperature changes, as JSON: {"30": 3.5, "70": 3.0}'
    )
    frame_selection: str = option("all", "frames of ctc_kd: all, threshold or symmetric")
    blank_threshold: float = option(0.95, "threshold: frames whose combined blank probability reaches it are left out")
    neighbours: int = option(1, "symmetric: non-blank frames and this many neighbours on each side")
    drop_blank_class: bool = option(False, "ctc_kd over the labels only, renormalised without the blank")
    rate_matching: str = option("equal", "frame rates of teacher and student: equal (else refused) or resample")
    layer_map: dict[str, Any] | str | None = option(None, 'student layer -> teacher layer, as JSON: {"2": 2, "3": 3}')
    hidden_distance: str = option("mse", "hidden: mse on layer-normalised states, or cosine")
    decoder_label_smoothing: float = option(0.0, "label smoothing of cross_entropy")
    ctc_label_smoothing: float = option(0.0, "label smoothing of ctc: its frames are drawn towards the uniform")

    auxiliary_ctc_weight: float = option(0.0, "weight of CTC on the student's auxiliary classifier (usual: 1)")
    auxiliary_kd_weight: float = option(
        0.0, "weight of the self-distillation from the student's output to that classifier (usual: 25); no teacher"
    )
    auxiliary_temperature: float = option(
        8.0, "temperature of that self-distillation (usual: 8 on convolutions, 1 with intermediate_layer)"
    )
    consistency_weight: float = option(
        0.0, "weight of the consistency between two masked views of each utterance (usual: 0.2); takes spec_augment"
    )
    blank_mass_weight: float = option(
        0.0, "weight of the match of teachers' and student's blank probability, on every frame"
    )
    pseudo_label_weight: float = option(0.0, "weight of the cross-entropy on the classes that the teachers are sure of")
    pseudo_label_confidence: float = option(0.9, "probability from which on the teachers are sure of a frame's class")
    sequence_kd_weight: float = option(
        0.0, "weight of CTC on the label sequence that the teachers hear; for recordings without a transcript"
    )
    sequence_confidence: float = option(
        0.0, "mean (geometric) of the teachers' best probabilities that an utterance needs for it; 0: every utterance"
    )

    augmentation: list[str] = option(
        [],
        "spec_augment; gain, gaussian_noise, pitch, vtlp; for landmarks rotation, translation, part_masking, mirror, "
        "temporal_mixup (length kept); speed, tempo, resample_time (live teachers only)",
    )
    augmentation_options: dict[str, Any] | str | None = option(
        None, 'options by name, as JSON: {"gain": {"highest": 3.0}}'
    )
    early_stopping_patience: int = option(0, "evaluations without improvement after which training stops; 0: never")
    early_stopping_min_delta: float = option(0.0, "what counts as an improvement of metric_for_best_model")
    expected_processes: int | None = option(None, "processes the configuration was made for; another number is refused")
    checkpoint_every_epochs: int = option(0, "also keep a copy of the student every so many epochs; 0: none")
    preflight_only: bool = option(False, "check everything that is checked before training, then stop")
    preflight_batches: int = option(4, "dev batches on which the combined teacher is decoded before training; 0: none")

    def __post_init__(self) -> None:
        if self.greater_is_better is None and self.metric_for_best_model is not None:
            self.greater_is_better = self.metric_for_best_model.removeprefix("eval_") == "wra"
        unnamed = self.output_dir is None
        if self.num_train_epochs is None:
            self.num_train_epochs = float(sum(stage.epochs for stage in self.declared_stages) or 3)
        frozen = [*self.freeze_modules, *(name for stage in self.declared_stages for name in stage.freeze)]
        if self.ddp_find_unused_parameters is None and frozen:
            self.ddp_find_unused_parameters = True  # what is frozen changes after the model is wrapped
        super().__post_init__()
        if unnamed:  # transformers makes "trainer_output" of it
            self.output_dir = None

    @property
    def declared_stages(self) -> list[Stage]:
        """The stages; none where none are declared, or one of them cannot be used (see `problems`)."""
        schedule = getattr(self.lr_scheduler_type, "value", self.lr_scheduler_type)
        return read_stages(self.stages, self.learning_rate, schedule)[0]

    def problems(self) -> list[str]:
        """Sentences about values that cannot be used."""
        found = stage_problems(self)
        if not self.output_dir:
            found.append("no run folder; set --output_dir FOLDER")
        if self.remove_unused_columns:
            found.append("remove_unused_columns is true; expected false, or ids, speakers and cached targets vanish")
        if self.early_stopping_patience < 0:
            found.append(f"early_stopping_patience is {self.early_stopping_patience}; expected 0 or more")
        if self.checkpoint_every_epochs < 0:
            found.append(f"checkpoint_every_epochs is {self.checkpoint_every_epochs}; expected 0 or more")
        if self.early_stopping_patience and not self.load_best_model_at_end:
            found.append("early_stopping_patience needs load_best_model_at_end true")
        if self.label_smoothing_factor:
            found.append("label_smoothing_factor is not used here; set --decoder_label_smoothing")
        if self.consistency_weight > 0 and "spec_augment" not in self.augmentation:
            found.append(
                f"consistency_weight is {self.consistency_weight} and augmentation has no spec_augment; "
                "two views without masks are identical and teach nothing: add it, or set --consistency_weight 0"
            )
        return found + self._curriculum_problems() + self._trainer_problems()

    def _curriculum_problems(self) -> list[str]:
        found = one_of("curriculum", self.curriculum, ("none", "linear", "sqrt", "step"))
        found += at_least(self, 1, "curriculum_epochs")
        if not 0 < self.curriculum_start <= 1:
            found.append(f"curriculum_start is {self.curriculum_start}; expected more than 0, 1 at most")
        if self.curriculum != "none" and self.train_sampling_strategy != "random":
            found.append(f"train_sampling_strategy is '{self.train_sampling_strategy}'; a curriculum needs random")
        return found

    def _trainer_problems(self) -> list[str]:
        """Values that transformers takes, and only stumbles over when it trains."""
        found = at_least(self, 1, "per_device_train_batch_size", "per_device_eval_batch_size")
        found += at_least(self, 1, "gradient_accumulation_steps")
        found += at_least(self, 0, "learning_rate", "weight_decay", "max_grad_norm")
        if not 0 < self.num_train_epochs < math.inf:
            found.append(f"num_train_epochs is {self.num_train_epochs}; expected more than 0")
        if (self.metric_for_best_model or "wer").removeprefix("eval_") not in ("wer", "wra", "loss"):
            found.append(f"metric_for_best_model is '{self.metric_for_best_model}'; expected wer, wra or loss")
        from transformers.integrations import get_available_reporting_integrations  # slow to import: not for --help

        loggers = get_available_reporting_integrations()
        for name in sorted(set(self.report_to) - set(loggers)):
            found.append(f"report_to has '{name}'; expected none, or what is installed here: {', '.join(loggers)}")
        return found


def at_least(arguments: Any, lowest: float, *names: str) -> list[str]:
    """The sentences about fields that are below `lowest`, or no finite number."""
    values = {name: getattr(arguments, name) for name in names}
    return [
        f"{name} is {value}; expected {lowest} or more"
        for name, value in values.items()
        if not lowest <= value < math.inf
    ]


def one_of(name: str, value: str, allowed: tuple[str, ...]) -> list[str]:
    """An empty list where `value` is allowed, else the sentence that says what is."""
    return [] if value in allowed else [f"{name} is '{value}'; expected one of {', '.join(allowed)}"]
