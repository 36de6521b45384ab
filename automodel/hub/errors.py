"""What can go wrong between this machine and a Hub, in the words of the house; a token never gets into them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

from automodel.errors import AutomodelError, RequestError

SECRET = re.compile(r"\b(?:hf|api_org)_[A-Za-z0-9]{16,}\b")
STARS = "***"


class HubRefused(RequestError):
    """The Hub does not let this account do what was asked, or the name cannot be used as asked."""


class HubFailed(AutomodelError):
    """The Hub could not be reached, or what arrived there is not what was sent."""


def without_secrets(text: str, token: str | None = None) -> str:
    """Return a text with the token, and whatever looks like one, as stars."""
    if token:
        text = text.replace(token, STARS)
    return SECRET.sub(STARS, text)


@contextmanager
def in_words(doing: str, repo_id: str, *, token: str | None, endpoint: str, state: str = "nothing was sent") -> Iterator[None]:
    """Turn what huggingface_hub raises inside the block into `HubRefused` or `HubFailed`.

    Args:
        doing: what was being done, as the beginning of a sentence: "creating the repository".
        repo_id: the repository.
        token: taken out of every text.
        endpoint: address of the Hub.
        state: what the Hub holds now, for the end of the message.
    """
    from huggingface_hub.errors import HfHubHTTPError

    # The base class is that of the HTTP library, which differs between releases of huggingface_hub.
    http_error = cast("type[Exception]", HfHubHTTPError.__bases__[0])
    try:
        yield
    except HfHubHTTPError as error:
        raise _answered(doing, repo_id, error, token=token, state=state) from None
    except (OSError, http_error) as error:
        if status_of(error) is not None:  # older releases let some answers through as the HTTP library's own error
            raise _answered(doing, repo_id, error, token=token, state=state) from None
        raise _unreachable(doing, error, token=token, endpoint=endpoint, state=state) from None
    except (ValueError, RuntimeError) as error:
        # A card the Hub refuses, an LFS server that reports an error, an answer that makes no sense.
        what = f"The Hub refused {doing}; {state}."
        fix = "correct what is named, then push again"
        raise HubFailed(what, found=_first(error, token), expected="an answer as the Hub gives it", fix=fix) from None


def status_of(error: BaseException) -> int | None:
    """Return the HTTP status that an error of huggingface_hub carries."""
    response: Any = getattr(error, "response", None)
    code = getattr(response, "status_code", None)
    return int(code) if code is not None else None


def _answered(doing: str, repo_id: str, error: Exception, *, token: str | None, state: str) -> AutomodelError:
    code, said = status_of(error), _first(error, token)
    owner = repo_id.partition("/")[0]
    if code == 401:
        return HubRefused(
            f"The Hub does not accept the token; {state}.",
            found=f"{doing}: {said}",
            expected="a valid token with the right to write",
            fix="log in with: hf auth login   (or set HF_TOKEN), with a token of the kind `write`",
        )
    if code == 403:
        return HubRefused(
            f"This token may not write to {repo_id}; {state}.",
            found=f"{doing}: {said}",
            expected=f"the right to write to the repositories of {owner}",
            fix=f"use a token of the kind `write` of a member of {owner}, or push to a name of your own",
        )
    if code == 404:
        return HubRefused(
            f"There is no such repository or branch on the Hub: {repo_id}; {state}.",
            found=f"{doing}: {said}",
            expected="an existing repository that this account can see",
            fix="check the name and the revision; without create_pr and revision the repository is made",
        )
    if code in (409, 412):
        return HubFailed(
            f"Somebody else changed {repo_id} at the same time; {state}.",
            found=f"{doing}: {said}",
            expected="an unchanged repository",
            fix="push again",
        )
    if code == 429:
        return HubFailed(f"The Hub asks to slow down; {state}.", found=said, expected="fewer requests", fix="wait some minutes, then push again")
    fix = "push again later; what the Hub already holds is not sent twice"
    return HubFailed(f"The Hub failed while {doing}; {state}.", found=said, expected="an answer without an error", fix=fix)


def _unreachable(doing: str, error: Exception, *, token: str | None, endpoint: str, state: str) -> AutomodelError:
    from huggingface_hub.errors import OfflineModeIsEnabled

    if isinstance(error, OfflineModeIsEnabled):
        return HubRefused(
            f"The Hub is switched off by HF_HUB_OFFLINE; {state}.",
            found="HF_HUB_OFFLINE is set",
            expected="a connection",
            fix="unset HF_HUB_OFFLINE",
        )
    return HubFailed(
        f"The Hub could not be reached while {doing}; {state}.",
        found=f"{endpoint}: {_first(error, token)}",
        expected="a connection",
        fix="check the network and HF_ENDPOINT, then push again: what has arrived is not sent twice",
    )


def _first(error: BaseException, token: str | None) -> str:
    """Return the lines of an error that say something, on one line, without secrets."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = " ".join(line for line in lines[:4] if not line.startswith(("For more", "Please make sure", "If you are trying")))
    return without_secrets(text[:300] or type(error).__name__, token)
