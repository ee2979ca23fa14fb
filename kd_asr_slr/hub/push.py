"""Publish a run: the list of its files first, then one commit that holds all of them."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from kd_asr_slr.files import write_json
from kd_asr_slr.hub.contents import PublishedFile, described, digest, publication, without_places
from kd_asr_slr.hub.custom_code import write_custom_code
from kd_asr_slr.hub.destination import Destination, api_of, check_destination, is_passing, refusals
from kd_asr_slr.hub.standing import standing_of, with_record
from kd_asr_slr.progress import say
from kd_asr_slr.reporting.model_card import card_of
from kd_asr_slr.reporting.run_folder import RunFolder

if TYPE_CHECKING:
    from huggingface_hub import HfApi

logger = logging.getLogger(__name__)

RECORD = "published.json"
WAITS = (1.0, 2.0, 4.0, 8.0)  # seconds before each further attempt
DIGITS = 12


def push_run(
    run: RunFolder,
    destination: Destination,
    *,
    dry_run: bool = False,
    predictions: bool = False,
    licence: str | None = None,
) -> str | None:
    """Publish a run's student, processor, code, card and results.

    Everything appears in one commit, or nothing does. Files that an earlier push made and this run no longer has are
    deleted in it; files of anybody else are left, and named. What was published is noted in the run folder, so that the
    cards of its students link to it.

    Args:
        run: a finished run.
        destination: the repository.
        dry_run: stop after the list of files; the hub is not asked for anything.
        predictions: publish the predictions, too, which hold the transcripts of the scored splits.
        licence: of the weights, as the hub names licences (apache-2.0, cc-by-nc-4.0, ...), for the card.

    Returns:
        The address of the commit; None after a dry run.

    Raises:
        UserError: if the run has no results or no student, or the hub refuses (see `check_destination`).

    Example:
        >>> push_run(RunFolder("runs/student"), Destination("owner/student"))
    """
    run.read_results()  # the first thing that a folder that is no finished run lacks
    name = destination.repository if dry_run else check_destination(destination)
    write_custom_code(run.path)
    card = without_places(str(card_of(run, place=name, licence=licence)))
    files = with_record(publication(run, card, predictions))
    say(f"{run.path} -> {name} ({'private' if destination.private else 'public'} if it is new):")
    say(described(files))
    if dry_run:
        say("a dry run: nothing was sent")
        return None
    with refusals(name):
        api = api_of(destination)
        there = standing_of(api, name, files)
        for line in there.lines():
            say(line)
        url = api.create_repo(name, private=destination.private, exist_ok=True)
        commit = commit_files(api, name, files, f"{run.read_results()['name']} from kd_asr_slr", there.stale)
    write_json(run.path / RECORD, {"repository": name, "url": str(url), "commit": commit.rpartition("/")[2]})
    say(f"published: {commit}")
    return commit


def commit_files(
    api: HfApi,
    name: str,
    files: list[PublishedFile],
    title: str,
    stale: Sequence[str] = (),
    wait: Callable[[float], None] = time.sleep,
) -> str:
    """One commit of all files; where the hub fails for the moment it is tried again.

    huggingface_hub tries uploads again, but not the commit itself, since an answer that got lost would make it twice.
    Here the commit's title names its contents, so that a commit whose answer got lost is found.

    Args:
        api: the client.
        name: OWNER/NAME, which exists.
        files: what it holds afterwards, beside what it held.
        title: of the commit.
        stale: paths that it deletes.
        wait: sleeps so many seconds.

    Returns:
        The commit's address.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationCopy, CommitOperationDelete

    title = f"{title} ({digest(files)[:DIGITS]})"
    added = [CommitOperationAdd(file.name, file.content) for file in files]  # kept: each is uploaded once
    operations: list[CommitOperationAdd | CommitOperationCopy | CommitOperationDelete] = list(added)
    operations += [CommitOperationDelete(path) for path in stale]
    waits = iter(WAITS)
    while True:
        try:
            return api.create_commit(name, operations, commit_message=title).commit_url
        except Exception as error:
            pause = next(waits, None)
            if pause is None or not is_passing(error):
                raise _cause(error) from None
            logger.warning("the hub did not take the commit (%s); trying again in %g s", type(error).__name__, pause)
        wait(pause)
        landed = _landed(api, name, title)
        if landed:
            return landed


def _landed(api: HfApi, name: str, title: str) -> str | None:
    """The address of the last commit, if it is this one."""
    try:
        last = api.list_repo_commits(name)[0]
    except Exception as error:
        if is_passing(error):
            return None
        raise
    return f"{api.endpoint}/{name}/commit/{last.commit_id}" if last.title == title else None


def _cause(error: Exception) -> Exception:
    """The error of the hub's answer, where an upload in a thread hid it behind another one."""
    return error.__cause__ if type(error) is RuntimeError and isinstance(error.__cause__, Exception) else error
