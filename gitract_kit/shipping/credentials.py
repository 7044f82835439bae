"""Credentials that must not travel: found by file name and by content, and named without being shown."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

__all__ = ["find_credentials"]

_NAMES = {
    *("kaggle.json", "access_token", "access_token.txt", "credentials.json"),
    *(".env", ".netrc", "id_rsa", "id_ed25519"),
}
# What it is; a literal that every one of them holds, so that gigabytes of weights are passed over quickly; the form.
# Between a name and its value stand quotes, brackets and, in a notebook's JSON, backslashes; a line's start is there
# the two characters \n, the second of which reads as part of a word.
_FORMS = [
    ("a Kaggle API token", b"KGAT_", rb"KGAT_[0-9A-Za-z]{16,}"),
    ("a Kaggle API token", b"KAGGLE_API_TOKEN", rb"KAGGLE_API_TOKEN\W{1,12}[0-9A-Za-z_]{20,}"),
    ("a Kaggle key", b"KAGGLE_KEY", rb"KAGGLE_KEY\W{1,12}[0-9a-f]{32}\b"),
    ("a Kaggle key", b"key", rb"['\"]key\\?['\"]\s*:\s*\\?['\"][0-9a-f]{32}\b"),
    ("a Hugging Face token", b"hf_", rb"(?:\b|\\[nrt])hf_[0-9A-Za-z]{30,}"),
    ("a GitHub token", b"ghp_", rb"(?:\b|\\[nrt])ghp_[0-9A-Za-z]{36}"),
    ("a GitHub token", b"github_pat_", rb"(?:\b|\\[nrt])github_pat_[0-9A-Za-z_]{40,}"),
    ("a Weights & Biases key", b"WANDB_API_KEY", rb"WANDB_API_KEY\W{1,12}[0-9a-f]{40}\b"),
    ("an AWS key", b"AKIA", rb"(?:\b|\\[nrt])AKIA[0-9A-Z]{16}\b"),
    ("a private key", b"PRIVATE KEY-----", rb"-----BEGIN [A-Z ]*PRIVATE KEY-----"),
]
_BLOCK = 1 << 23
_OVERLAP = 256  # longer than any form at its shortest, so that none is cut in two unseen


def find_credentials(path: Path) -> list[str]:
    """What credentials the file holds, say ``a Kaggle key in line 3``; never the credential itself."""
    if path.name in _NAMES:
        return ["its name is that of a file with credentials"]
    with path.open("rb") as file:
        return list(dict.fromkeys(f"{what} in line {line}" for what, line in _search(file)))


def _search(file) -> Iterator[tuple[str, int]]:
    tail, lines_before = b"", 0
    while block := file.read(_BLOCK):
        text = tail + block
        for what, literal, form in _FORMS:
            if literal in text:
                for match in re.finditer(form, text):
                    yield what, lines_before + text.count(b"\n", 0, match.start()) + 1
        tail = text[-_OVERLAP:]
        lines_before += text.count(b"\n", 0, len(text) - len(tail))
