"""Where a run is published: a repository on the hub, who may write there, and what the hub's refusals mean."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kd_asr_slr.arguments import DistillationArguments
from kd_asr_slr.errors import UserError

if TYPE_CHECKING:
    from huggingface_hub import HfApi

LOG_IN = "type hf auth login, or set HF_TOKEN to a token that may write"
# What the hub itself puts into a repository that was just made.
EMPTY = {".gitattributes"}


@dataclass(frozen=True)
class Destination:
    """A repository for one run.

    Attributes:
        repository: OWNER/NAME; with NAME alone the owner is whose token it is.
        private: whether a repository that is made now is private; one that exists stays as it is.
        update: whether a repository that exists may be written.
        token: the hub's access token; default: HF_TOKEN, or where `hf auth login` put it.
    """

    repository: str
    private: bool = True
    update: bool = False
    token: str | None = None


def destination_of(training: DistillationArguments) -> Destination | None:
    """Where transformers' own options publish a run: `push_to_hub`, `hub_model_id`, `hub_private_repo`, `hub_token`.

    A repository is private unless `hub_private_repo` says false. None where the run is not to be published.
    """
    if not training.push_to_hub:
        return None
    return Destination(
        repository=training.hub_model_id or Path(training.output_dir or "").resolve().name,
        private=training.hub_private_repo is not False,
        update=training.hub_update,
        token=training.hub_token,
    )


def api_of(destination: Destination) -> HfApi:
    """huggingface_hub's client."""
    from huggingface_hub import HfApi

    from kd_asr_slr import __version__

    return HfApi(token=destination.token, library_name="kd_asr_slr", library_version=__version__)


def check_destination(destination: Destination) -> str:
    """Ask the hub, before any work is done, whether a run can be published there; nothing is made yet.

    Returns:
        The repository's full name, OWNER/NAME.

    Raises:
        UserError: if the name cannot be used, there is no token or it is refused, the hub cannot be reached, or the
            repository exists, holds something, and is not to be updated.
    """
    from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(destination.repository)
    except HFValidationError as error:
        raise UserError(
            f"'{destination.repository}' is no name of a repository ({error})", "OWNER/NAME, letters, digits, - _ ."
        ) from None
    api = api_of(destination)
    with refusals(destination.repository):
        name = destination.repository
        owner = api.whoami()["name"]
        if "/" not in name:
            name = f"{owner}/{name}"
        try:
            info = api.model_info(name)
        except RepositoryNotFoundError:
            return name
    if not destination.update and {file.rfilename for file in info.siblings or []} - EMPTY:
        raise UserError(
            f"the repository {name} exists and holds a model",
            expected="a new or empty one",
            fix="choose another name, or say that it is to be updated (recipes/push.py: --update true; "
            "--push_to_hub: --hub_update true)",
        )
    return name


@contextlib.contextmanager
def refusals(repository: str) -> Iterator[None]:
    """What the hub's client raises meanwhile, as one sentence.

    Raises:
        UserError: for a missing or refused token, a refused repository, a server error, or no connection.
    """
    from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError, OfflineModeIsEnabled

    try:
        yield
    except LocalTokenNotFoundError as error:
        raise UserError("there is no token for the hub", fix=LOG_IN) from error
    except OfflineModeIsEnabled as error:
        raise UserError("the hub is switched off (HF_HUB_OFFLINE)", fix="unset it and push again") from error
    except HfHubHTTPError as error:
        raise _refused(repository, error) from error
    except Exception as error:
        if str(error).startswith("Invalid metadata"):  # the client's ValueError, after the hub has read the card
            raise UserError(f"the hub refuses the card: {_after_dash(error)}", fix="correct --license") from error
        if not is_passing(error):
            raise
        raise UserError(
            f"the hub cannot be reached ({type(error).__name__}: {error})",
            fix="check the connection, then push again with recipes/push.py",
        ) from error


def is_passing(error: BaseException | None) -> bool:
    """Whether the same request may succeed later: a server error, too many requests, a lost connection."""
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    if error is None or isinstance(error, OfflineModeIsEnabled):
        return False
    if isinstance(error, HfHubHTTPError):
        return error.response.status_code == 429 or error.response.status_code >= 500
    # httpx, under whichever name the client brings it; an upload in a thread hides its error behind another one.
    lost = type(error).__module__.partition(".")[0].startswith("httpx") or isinstance(error, ConnectionError)
    return lost or is_passing(error.__cause__)


def _after_dash(error: Exception) -> str:
    return "; ".join(line.removeprefix("- ") for line in str(error).splitlines()[1:])


def _refused(repository: str, error: Exception) -> UserError:
    status = error.response.status_code  # type: ignore[attr-defined]
    said = getattr(error, "server_message", None) or str(error).strip().splitlines()[0]
    if status == 401:
        return UserError(f"the hub refuses the token (401: {said})", "a valid access token", fix=LOG_IN)
    if status == 403:
        return UserError(
            f"the token may not write to {repository} (403: {said})",
            expected="a token with write access to its owner",
            fix=LOG_IN,
        )
    if status >= 500 or status == 429:
        return UserError(
            f"the hub answers {status} and goes on doing so; nothing of {repository} was published",
            fix="push again later with recipes/push.py",
        )
    return UserError(f"the hub refuses {repository} ({status}: {said})")
