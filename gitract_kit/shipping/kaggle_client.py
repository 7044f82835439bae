"""Kaggle asked through the official client, and its refusals turned into errors that say what to do.

Credentials are the client's business: nothing here reads, passes or prints them.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from typing import Any

from gitract_kit.errors import GitractError, KaggleError, PushError, SessionLimitError

__all__ = ["ANSWER_S", "UPLOAD_BYTES_PER_S", "ask_kaggle", "refusal"]

ANSWER_S = 300.0
"""Seconds that Kaggle has for an answer. The client itself tries for about 150 where nobody answers."""
UPLOAD_BYTES_PER_S = 100_000
"""The slowest line that an upload is given time for."""

_REFUSED = {
    400: "Kaggle finds the request itself at fault: mend what it names",
    401: "sign in again: `kaggle auth login`, or a new token from https://www.kaggle.com/settings/api",
    403: "you may not: push under your own name, accept the competition's rules on its page, and verify your phone "
    "on Kaggle, without which there is no GPU and no internet",
    404: "no such thing on Kaggle: look for a slip of the pen in owner, slug, competition and version",
    409: "Kaggle holds something else under this name, or another change of it is under way: wait a minute and push "
    "again, or choose another slug and title",
    413: "too large for Kaggle: move data into a dataset of its own",
}
_PHRASES = {
    "session count": "wait until a session ends, or stop one at https://www.kaggle.com/code (with --fold and "
    "--wait the kit waits by itself); a session that was just stopped counts for some minutes",
    "in use by a dataset": "to send a new version of that dataset give -m 'what changed'; otherwise choose another id",
    "already in use": "choose another slug and title, or push under the id that the kernel has on Kaggle",
    "already exists": "choose another slug and title; for a new version of a dataset give -m 'what changed'",
}


def ask_kaggle(method: str, about: str, *, timeout_s: float = ANSWER_S, **arguments: Any) -> dict[str, Any]:
    """Return what Kaggle answered, as the client read it: JSON's own types, Kaggle's own key names.

    ``about`` names the thing in messages. What the user can mend is a `PushError`; no answer within ``timeout_s``,
    no connection and Kaggle's own failures are a `KaggleError`. An answer that holds an error in words is returned
    like any other: see `refusal`.
    """
    command = [sys.executable, "-m", "gitract_kit.shipping.kaggle_process"]
    question = json.dumps({"method": method, "arguments": arguments})
    try:
        done = subprocess.run(
            command, input=question, stdout=subprocess.PIPE, text=True, env=_environment(), timeout=timeout_s
        )
    except subprocess.TimeoutExpired as error:
        raise KaggleError(
            f"{about}: no answer from Kaggle within {timeout_s:.0f} s; it may have arrived all the same: look at "
            "https://www.kaggle.com/work before you push again"
        ) from error
    answer = _read_answer(done, about)
    if "fault" in answer:
        raise _error(answer["fault"], answer["said"], about)
    return answer["value"]


def _environment() -> dict[str, str]:
    """This process's, without what makes the client print its requests, credentials and all."""
    return {key: value for key, value in os.environ.items() if key not in ("VERBOSE", "VERBOSE_OUTPUT")}


def _read_answer(done: subprocess.CompletedProcess[str], about: str) -> dict[str, Any]:
    try:
        return json.loads(done.stdout)
    except ValueError as error:
        raise KaggleError(
            f"{about}: the client's process ended with {done.returncode} and no answer; its last words are above"
        ) from error


def refusal(words: str, about: str) -> PushError:
    """The error for a refusal that Kaggle put in words; a `SessionLimitError` where only time is missing."""
    known = next((remedy for phrase, remedy in _PHRASES.items() if phrase in words.lower()), None)
    kind = SessionLimitError if "session count" in words.lower() else PushError
    return kind(f"{about}: Kaggle refused: {_plain(words)}; {known or 'mend what it names and push again'}")


def _error(fault: dict[str, Any], said: str, about: str) -> GitractError:
    kind, message = fault["kind"], _plain(fault["message"])
    if kind == "http":
        return _http_error(fault["status"], message, about)
    if kind == "missing":
        return PushError(
            f"{about}: the official client is not here ({message}): pip install 'gitract-kit[kaggle]'"
        )
    if kind == "signed out":
        return PushError(f"{about}: {message}: sign in once with `kaggle auth login`")
    if kind == "refused":
        return PushError(f"{about}: the client refused: {message}")
    if kind == "upload":
        words = _plain(said.strip().splitlines()[-1]) if said.strip() else "nothing"
        return KaggleError(f"{about}: {message}, nothing was created (the client said: {words}); push again")
    if kind == "connection":
        return KaggleError(f"{about}: no connection to Kaggle ({message}); check the network and push again")
    return KaggleError(
        f"{about}: the answer was not understood ({fault['type']}: {message}); it may have arrived all the same: look "
        "at https://www.kaggle.com/work, and try a newer client: pip install -U kaggle"
    )


def _http_error(status: int, message: str, about: str) -> GitractError:
    if status == 429:
        return KaggleError(f"{about}: too many requests (429: {message}); wait some minutes and push again")
    if status < 400 or status >= 500:
        return KaggleError(
            f"{about}: Kaggle itself failed ({status}: {message}); look at https://www.kaggle.com/work whether it "
            "arrived, then push again"
        )
    if status in (400, 409) and any(phrase in message.lower() for phrase in _PHRASES):
        return refusal(message, about)
    remedy = _REFUSED.get(status, "mend what it names and push again")
    return PushError(f"{about}: Kaggle refused ({status}: {message}); {remedy}")


def _plain(words: str) -> str:
    """One line, without the query of an address: an upload's holds the right to upload."""
    return re.sub(r"(https?://[^\s?]+)\?\S+", r"\1", " ".join(words.split())).rstrip(".;")
