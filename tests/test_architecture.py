"""Imports point one way: what each room of the package may import, lazily or not, and that it imports no more."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Set
from pathlib import Path
from typing import NamedTuple

import pytest

import gitract_kit

PACKAGE = Path(gitract_kit.__file__).parent
GROUND = {"errors", "settings", "training_settings", "strict", "files", "versions"}
TABLES = {"numpy", "pandas", "scipy", "cv2"}
NETWORKS = {"torch", "timm", "segmentation_models_pytorch", "safetensors"}


class Room(NamedTuple):
    """What a room may import besides itself, the ground and the standard library."""

    rooms: Set[str] = frozenset()
    packages: Set[str] = frozenset()


ROOMS = {
    "errors": Room(),
    "files": Room(),
    "strict": Room(),
    "versions": Room(),
    "settings": Room(packages={"yaml"}),
    "training_settings": Room(),
    "competition": Room(packages=TABLES),
    "data": Room({"competition"}, TABLES | {"sklearn", "albumentations", "tqdm"}),
    "models": Room(packages=NETWORKS | {"numpy"}),
    "training": Room({"competition", "data", "models"}, TABLES | NETWORKS | {"matplotlib", "tqdm"}),
    "inference": Room({"competition", "data", "models"}, TABLES | NETWORKS | {"tqdm"}),
    "shipping": Room(
        {"competition", "data", "models", "inference"},
        TABLES | NETWORKS | {"nbformat", "nbclient", "kaggle", "packaging"},
    ),
    "report": Room({"competition", "data"}, TABLES | {"matplotlib"}),
    # lazily, which test_package.py sees to
    "cli_kaggle": Room({"competition", "shipping"}),
    "cli_results": Room({"competition", "shipping", "report"}, {"torch"}),
    "cli": Room(
        {"cli_kaggle", "cli_results", "competition", "data", "training", "inference", "shipping"},
        {"tqdm"},
    ),
    "__main__": Room({"cli"}),
    "__init__": Room(),
}
# the one place that imports by a name it holds in a variable: the lazy exports, which test_package.py covers
LAZY = "__init__.py"


def find_imports(source: str, module: tuple[str, ...]) -> Iterator[tuple[int, str]]:
    """Line and full dotted name of every import in ``source``; ``module`` is the package it stands in."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = module[: len(module) - node.level + 1] if node.level else ()
            base = ".".join([*above, *filter(None, [node.module])])
            # `from gitract_kit import x` may fetch a room or a lazily exported name
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
            first = node.args[0] if node.args else None
            yield node.lineno, first.value if isinstance(first, ast.Constant) else "?"


def find_violations(source: str, path: str) -> list[str]:
    """Imports of the module at ``path`` (under the package) that the table does not allow."""
    parts = ("gitract_kit", *Path(path).parts)
    room = parts[1].removesuffix(".py")
    return [
        f"{path}:{line} imports {name}"
        for line, name in find_imports(source, parts[:-1])
        if not is_allowed(name, room)
    ]


def is_allowed(name: str, room: str) -> bool:
    package, _, rest = name.partition(".")
    if package != "gitract_kit":
        return package in sys.stdlib_module_names or package in ROOMS[room].packages
    target = rest.partition(".")[0]
    if target in gitract_kit._HOMES:
        target = gitract_kit._HOMES[target].split(".")[1]
    return target in {room, "__version__"} | GROUND | ROOMS[room].rooms


MODULES = sorted(str(path.relative_to(PACKAGE)) for path in PACKAGE.rglob("*.py"))


def test_every_module_stands_in_a_room_of_the_table():
    assert {Path(path).parts[0].removesuffix(".py") for path in MODULES} == set(ROOMS)


@pytest.mark.parametrize("path", MODULES)
def test_a_module_imports_what_its_room_may(path):
    violations = find_violations((PACKAGE / path).read_text(encoding="utf-8"), path)
    assert [
        violation for violation in violations if path != LAZY or not violation.endswith(" imports ?")
    ] == []


@pytest.mark.parametrize("room", ["errors", "files", "settings", "competition", "data", "report"])
def test_rooms_without_networks_have_no_torch(room):
    assert not ROOMS[room].packages & NETWORKS
    assert not ROOMS[room].rooms & {"models", "training", "inference", "shipping"}


@pytest.mark.parametrize(
    ("path", "source", "found"),
    [
        ("competition/rle.py", "import torch", "torch"),
        ("competition/rle.py", "import numpy, torch.nn as nn", "torch.nn"),
        ("competition/rle.py", "def load():\n    from torch import nn", "torch.nn"),
        ("competition/rle.py", "if TYPE_CHECKING:\n    import torch", "torch"),
        ("competition/rle.py", "from gitract_kit.data.scans import load", "gitract_kit.data.scans.load"),
        ("competition/rle.py", "from ..data import scans", "gitract_kit.data.scans"),
        ("competition/rle.py", "from .. import data", "gitract_kit.data"),
        ("competition/rle.py", "from gitract_kit import create_model", "gitract_kit.create_model"),
        ("competition/rle.py", "importlib.import_module('torch')", "torch"),
        ("competition/rle.py", "import_module(name)", "?"),
        ("competition/rle.py", "__import__('torch')", "torch"),
        ("competition/deeper/rle.py", "from ...models import losses", "gitract_kit.models.losses"),
        ("data/folds.py", "import torch", "torch"),
        ("models/factory.py", "from gitract_kit.data import scans", "gitract_kit.data.scans"),
        ("inference/member.py", "import gitract_kit.training.trainer", "gitract_kit.training.trainer"),
        (
            "shipping/bundle.py",
            "from gitract_kit.training import train_fold",
            "gitract_kit.training.train_fold",
        ),
        ("report/page.py", "from gitract_kit.inference import member", "gitract_kit.inference.member"),
        ("settings.py", "import numpy", "numpy"),
        ("errors.py", "import yaml", "yaml"),
        ("__init__.py", "import numpy", "numpy"),
    ],
)
def test_the_reader_of_imports_catches(path, source, found):
    assert [violation.split(" imports ")[1] for violation in find_violations(source, path)] == [found]


def test_the_reader_of_imports_lets_the_table_pass():
    source = (
        "import os, numpy as np\nfrom .rle import rle_encode\nfrom gitract_kit import rle_decode, __version__"
    )
    assert find_violations(source, "competition/rle.py") == []
    assert find_violations("from gitract_kit.competition.rle import rle_encode", "data/scans.py") == []
