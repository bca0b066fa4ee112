"""What went wrong between this machine and the Hugging Face hub, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

from generation.weights.catalogue import PublishedModel
from recon.errors import WeightsError


@contextmanager
def explained(model: PublishedModel) -> Iterator[None]:
    """Turns errors of the hub and of the connection into `WeightsError`.

    A full disk and other faults of this machine stay `OSError`.

    Args:
        model: what is asked for.

    Raises:
        WeightsError: with what to do.
    """
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    # The base of the hub's own error is that of whichever HTTP client this version of it uses.
    HttpError = cast("type[Exception]", HfHubHTTPError.__mro__[1])
    try:
        yield
    except HfHubHTTPError as error:
        raise _refused(error, model) from error
    except OfflineModeIsEnabled as error:
        raise WeightsError(
            f"{model.label} cannot be downloaded: HF_HUB_OFFLINE is set",
            hint="unset HF_HUB_OFFLINE, or name a folder that has the file with --weights",
        ) from error
    except (HttpError, OSError) as error:
        if getattr(error, "errno", None) is not None:
            raise  # a fault of this machine; the hub's library raises OSError without a number
        raise _interrupted(error, model) from error


def again(model: PublishedModel) -> str:
    """What to type to go on with a download."""
    return f"`fourdvd models fetch {model.label} --accept-licence` goes on where it stopped"


def _refused(error: Exception, model: PublishedModel) -> WeightsError:
    """The hub answered, but not with the file."""
    from huggingface_hub import get_token
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    status = getattr(getattr(error, "response", None), "status_code", None)
    log_in = "`hf auth login` or HF_TOKEN"
    if isinstance(error, (EntryNotFoundError, RevisionNotFoundError)):
        return WeightsError(
            f"the hub has no {model.file_name} in {model.repository}", hint=f"look at {model.page}"
        )
    if isinstance(error, RepositoryNotFoundError) or status in (401, 403):
        if get_token() is None:
            return WeightsError(
                f"the hub does not hand out {model.repository} to strangers",
                hint=f"accept the licence on {model.page}, log in with {log_in}, and try again",
            )
        gated = isinstance(error, GatedRepoError) or status == 403
        reason = "has not accepted the licence" if gated else "is not known or may not see it"
        return WeightsError(
            f"the hub does not hand out {model.repository}: the account of your token {reason}",
            hint=f"accept the licence on {model.page} with that account, or change it: {log_in}",
        )
    return WeightsError(
        f"the hub cannot hand out {model.label} now: it answered {status}", hint=again(model)
    )


def _interrupted(error: Exception, model: PublishedModel) -> WeightsError:
    """The hub was not reached, or the connection broke."""
    reason = str(error.__cause__ or error).splitlines() or [type(error).__name__]
    return WeightsError(
        f"the connection to the hub failed while fetching {model.label}: {reason[0]}",
        hint=f"check the network; {again(model)}",
    )
