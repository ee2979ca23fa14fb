"""The run folder: what a run leaves behind, who may write there, and how it is read again."""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from kd_asr_slr.errors import UserError, raise_all
from kd_asr_slr.files import plain, read_json, write_json, write_text
from kd_asr_slr.reporting import ownership
from kd_asr_slr.reporting.checkpoints import last_checkpoint
from kd_asr_slr.reporting.ownership import ANOTHER_FOLDER
from kd_asr_slr.reporting.results_schema import SCHEMA, problems_of_results, problems_of_score, score_key
from kd_asr_slr.scoring.predictions import Prediction, read_predictions, write_predictions

logger = logging.getLogger(__name__)

RUN_SCHEMA = 1
STATUSES = ("running", "finished", "wiping")

Claim = Literal["new", "resume", "finished"]


class RunFolder:
    """A folder that one run owns; every file in it appears whole or not at all.

    Files: `run.json` (who owns the folder, running or finished), `resolved_config.yaml`, `results.json`,
    `predictions-<split>.jsonl` (greedy) and `predictions-<split>-<decoder>.jsonl` (any other decoder), the student and
    its processor, the trainer's `checkpoint-N` folders, `history.json`, `training_curves.png` and `.pdf`, `README.md`.

    Args:
        path: the folder; it need not exist yet.

    Example:
        >>> run = RunFolder("runs/student")
        >>> if run.claim(config, volatile={"output_dir"}, recipe="distill") != "finished":
        ...     trainer.train(resume_from_checkpoint=run.last_checkpoint())
        ...     run.finish()
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def __repr__(self) -> str:
        return f"RunFolder({str(self.path)!r})"

    @property
    def exists(self) -> bool:
        """Whether this is a run folder (it has `run.json`)."""
        return (self.path / "run.json").is_file()

    # -- owning ------------------------------------------------------------------------------------------------

    def claim(
        self,
        config: Mapping[str, Any],
        volatile: Collection[str] = frozenset(),
        *,
        recipe: str = "train",
        name: str | None = None,
        overwrite: bool = False,
    ) -> Claim:
        """Take the folder for a run with this config. With several processes, one of them claims.

        Nothing of an older run is touched unless `overwrite` says so; see `status` for the answer without a claim.

        Args:
            config: the resolved config, nested or flat; paths and enums are written as strings.
            volatile: keys that may differ when a run is taken up again (dotted, a section, or a key's last part).
            recipe: the recipe's name; the same config under another recipe is another run.
            name: the run's name; by default the folder's.
            overwrite: delete what another run wrote here (never anything else) and start again.

        Returns:
            "new" (start), "resume" (same run, unfinished: go on from `last_checkpoint`), "finished" (reuse it).

        Raises:
            UserError: where the folder belongs to another run, or holds files and is no run folder.
        """
        answer = self.status(config, volatile, recipe=recipe, overwrite=overwrite)
        if answer == "finished":
            return answer
        if answer == "new":
            self._create()
            if self.exists:
                self._wipe()
            record = {
                "schema": RUN_SCHEMA,
                "name": name or self.path.resolve().name,
                "recipe": recipe,
                "config_sha256": ownership.fingerprint(ownership.identity(config, volatile, recipe)),
                "status": "running",
            }
            write_json(self.path / "run.json", record)  # first: from here on the folder is a run's
        self._write_config(config)  # on "resume" too: volatile values as they are now
        return answer

    def status(
        self,
        config: Mapping[str, Any],
        volatile: Collection[str] = frozenset(),
        *,
        recipe: str = "train",
        overwrite: bool = False,
    ) -> Claim:
        """What `claim` would answer, and its refusals; nothing is written, so every process may ask.

        Raises:
            UserError: if the folder holds other files, or another run.
        """
        if not self.path.exists():
            ownership.refuse_unusable_place(self.path)
            return "new"
        if not self.path.is_dir():
            raise UserError(f"{self.path} is a file", "a folder as --output_dir", ANOTHER_FOLDER)
        if not self.exists:
            ownership.refuse_foreign_files(self.path)
            return "new"
        found = self.record()
        if overwrite or found["status"] == "wiping":  # "wiping": an overwrite was killed half-way
            return "new"
        self._refuse_other_run(found, ownership.identity(config, volatile, recipe), volatile)
        return "finished" if found["status"] == "finished" else "resume"

    def finish(self) -> None:
        """Mark the run finished: the next claim with this config reuses it."""
        write_json(self.path / "run.json", {**self.record(), "status": "finished"})

    def record(self) -> dict[str, Any]:
        """What `run.json` says: schema, name, recipe, config_sha256, status.

        Raises:
            UserError: where it is missing, broken, or of another schema.
        """
        path = self._existing("run.json", "a run folder", "give the folder that train.py or distill.py wrote")
        record = read_json(path)
        if not isinstance(record, dict) or record.get("schema") != RUN_SCHEMA:
            found = record.get("schema") if isinstance(record, dict) else type(record).__name__
            raise UserError(f"{path} has schema {found!r}", expected=f"schema {RUN_SCHEMA}", fix=ANOTHER_FOLDER)
        missing = [key for key in ("name", "recipe", "config_sha256", "status") if not isinstance(record.get(key), str)]
        problems = [f"{key} is {record.get(key)!r}; expected a string" for key in missing]
        if not missing and record["status"] not in STATUSES:
            problems.append(f"status is {record['status']!r}; expected one of {', '.join(STATUSES)}")
        raise_all(problems, str(path))
        return record

    def config(self) -> dict[str, Any]:
        """The resolved config as the run wrote it.

        Raises:
            UserError: where `resolved_config.yaml` is missing or no YAML mapping.
        """
        import yaml

        path = self._existing("resolved_config.yaml", "the config the run was started with", "run the recipe again")
        try:
            config = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise UserError(f"{path} is not valid YAML ({' '.join(str(error).split())})") from error
        if not isinstance(config, dict):
            raise UserError(f"{path} holds a {type(config).__name__}", expected="keys and values")
        return config

    def last_checkpoint(self) -> Path | None:
        """The `checkpoint-N` with the highest N that was written to its end, or None; see `checkpoints`."""
        return last_checkpoint(self.path)

    # -- results -----------------------------------------------------------------------------------------------

    def write_results(
        self,
        *,
        model_type: str,
        parameters: int,
        bytes: int,
        corpus: str,
        teachers: list[str] | list[dict[str, Any]],
        seed: int,
        aggregation: str | Mapping[str, Any] | None = None,
        training: Mapping[str, Any] | None = None,
        vocabulary: Mapping[str, Any] | None = None,
        untranscribed: Mapping[str, Any] | None = None,
        diagnostics: Mapping[str, Any] | None = None,
        recipe: str | None = None,
        name: str | None = None,
    ) -> dict[str, Any]:
        """Write `results.json` of a student just trained; it has no scores yet, older ones are of another student.

        Args:
            model_type: the model's type, e.g. "bilstm_ctc".
            parameters: number of the student's parameters.
            bytes: size of the student's weights on disk.
            corpus: name of the corpus.
            teachers: their names, or objects with at least a `name`; empty for a run on labels only.
            seed: the run's seed.
            aggregation: how the teachers were combined, a name or an object with a `name`. Needed where the config
                cannot say it (cached teachers were combined when the cache was written); left out where None.
            training: what it cost: `epochs`, `steps` and `seconds` (None where a resumed run cannot say it).
            vocabulary: `size` and `fingerprint` of the labels, so that runs of other labels are told apart.
            untranscribed: `utterances` that taught without their text, and whether that was `transductive`.
            diagnostics: figures of the combined target before the first step.
            recipe: by default the one that claimed the folder.
            name: by default the run's name.

        Returns:
            The object written.

        Raises:
            UserError: where a value does not fit the schema, all of them at once.
        """
        record = self.record() if recipe is None or name is None else {}
        results = {
            "schema": SCHEMA,
            "name": name or record["name"],
            "recipe": recipe or record["recipe"],
            "model": {"type": model_type, "parameters": parameters, "bytes": bytes},
            "corpus": corpus,
            "teachers": list(teachers),
            "seed": seed,
            "scores": [],
        }
        known = {"aggregation": aggregation, "training": training, "vocabulary": vocabulary}
        known |= {"untranscribed": untranscribed, "diagnostics": diagnostics}
        results |= {key: value for key, value in known.items() if value is not None}
        return self._write_results(results)

    def add_scores(self, score: Mapping[str, Any]) -> dict[str, Any]:
        """Add one entry to `scores`; it replaces the one with the same split, decoder, LM and protocol.

        Args:
            score: an entry as `scoring.score.score_predictions` makes it.

        Returns:
            The whole results object as written.

        Raises:
            UserError: where there is no `results.json`, or the entry does not fit the schema.
        """
        from filelock import FileLock

        entry = plain(score)
        raise_all(problems_of_score(entry), f"a score for {self.path / 'results.json'}")
        self._existing("results.json", "the results of a finished run", self._how_to_get_results())
        with FileLock(self.path / ".results.json.lock"):  # two scorers may add to one run at the same time
            results = self.read_results()
            scores = results["scores"]
            for index, other in enumerate(scores):
                if score_key(other) == score_key(entry):
                    scores[index] = entry
                    break
            else:
                scores.append(entry)
            return self._write_results(results)

    def read_results(self) -> dict[str, Any]:
        """Read and check `results.json`.

        Raises:
            UserError: where it is missing, broken JSON, of another schema, or has values that do not fit.
        """
        path = self._existing("results.json", "the results of a finished run", self._how_to_get_results())
        results = read_json(path)
        raise_all(problems_of_results(results), str(path))
        return results

    # -- predictions -------------------------------------------------------------------------------------------

    def predictions_path(self, split: str, decoder: str = "greedy") -> Path:
        """`predictions-<split>.jsonl` for greedy decoding, `predictions-<split>-<decoder>.jsonl` for any other.

        Raises:
            UserError: if a name cannot be part of a file's name.
        """
        for what, value in (("split", split), ("decoder", decoder)):
            if not re.fullmatch(r"\w+([.-]\w+)*", value):
                raise UserError(f"the {what} {value!r} cannot be part of a file's name", "letters, digits, _ . and -")
        return self.path / f"predictions-{split}{'' if decoder == 'greedy' else f'-{decoder}'}.jsonl"

    def write_predictions(self, split: str, rows: Iterable[Mapping[str, Any]], decoder: str = "greedy") -> Path:
        """Write what the student recognised, one JSON object a line, in the order given.

        Args:
            split: the split that was decoded.
            rows: objects with `id` (unique), `speaker`, `reference` and `hypothesis`; more keys are kept.
            decoder: the decoder's name; see `predictions_path`.

        Raises:
            UserError: where rows lack a key or share an id, all of them at once.
        """
        path = self.predictions_path(split, decoder)
        write_predictions(path, [plain(row) for row in rows])
        return path

    def read_predictions(self, split: str, decoder: str = "greedy") -> list[Prediction]:
        """Read the predictions of a split.

        Raises:
            UserError: where the file is missing or a line is no such row.
        """
        name = self.predictions_path(split, decoder).name
        fix = f"score split {split!r} of this run with decoder {decoder!r}"
        return read_predictions(self._existing(name, "the predictions of a scored split", fix))

    # -- inside ------------------------------------------------------------------------------------------------

    def _create(self) -> None:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError) as error:
            raise UserError(f"{error.filename} is a file", "a folder as --output_dir", ANOTHER_FOLDER) from error
        except PermissionError as error:
            raise UserError(f"{error.filename} cannot be created (no permission)", "", ANOTHER_FOLDER) from error

    def _write_config(self, config: Mapping[str, Any]) -> None:
        import yaml

        text = yaml.safe_dump(ownership.without_secrets(config), sort_keys=False, allow_unicode=True, width=120)
        write_text(self.path / "resolved_config.yaml", text)

    def _wipe(self) -> None:
        # A kill in here leaves "wiping", and the next claim wipes on instead of resuming from what is left.
        write_json(self.path / "run.json", {**self.record(), "status": "wiping"})
        for entry in ownership.owned_entries(self.path):
            if entry.name != "run.json":
                ownership.delete(entry)
        kept = [entry.name for entry in sorted(self.path.iterdir()) if entry.name != "run.json"]
        if kept:
            logger.warning("kept in %s, since no run wrote it: %s", self.path, ", ".join(kept))

    def _refuse_other_run(self, found: dict[str, Any], identity: dict[str, Any], volatile: Collection[str]) -> None:
        if found["config_sha256"] == ownership.fingerprint(identity):
            return
        # The list of volatile keys may have grown since, so the values decide; a lost config leaves the hash only.
        lost = not (self.path / "resolved_config.yaml").is_file()
        theirs = None if lost else ownership.identity(self.config(), volatile, found["recipe"])
        ownership.refuse_other_run(self.path, found["name"], theirs, identity)

    def _existing(self, name: str, what: str, fix: str) -> Path:
        path = self.path / name
        if not self.path.is_dir():
            raise UserError(f"there is no folder {self.path}", expected="a run folder", fix="check the path")
        if not path.is_file():
            raise UserError(f"{self.path} has no {name}", expected=what, fix=fix)
        return path

    def _how_to_get_results(self) -> str:
        if self.exists and self.record()["status"] == "running":
            return "that run is unfinished; start its command again, it resumes from the last checkpoint"
        return "give the folder that train.py or distill.py wrote"

    def _write_results(self, results: dict[str, Any]) -> dict[str, Any]:
        results = plain(results)
        raise_all(problems_of_results(results), f"the results for {self.path / 'results.json'}")
        self._create()
        write_json(self.path / "results.json", results)
        return results
