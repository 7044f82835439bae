"""What importing the package costs, and that every name it promises is there."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import gitract_kit

HEAVY = {"torch", "numpy", "pandas", "cv2", "scipy", "sklearn", "matplotlib", "albumentations", "timm"}
COMPETITION = Path(gitract_kit.__file__).parent / "competition"


def loaded_modules(statements: str, *arguments: str) -> set[str]:
    """Top-level modules in memory after ``statements``, in a Python of its own."""
    report = (
        "import json, sys; print('\\n' + json.dumps(sorted({name.split('.')[0] for name in sys.modules})))"
    )
    child = subprocess.run(
        [sys.executable, "-c", f"{statements}\n{report}", *arguments],
        capture_output=True,
        text=True,
        check=True,
    )
    return set(json.loads(child.stdout.splitlines()[-1]))


def test_importing_the_package_imports_nothing_heavy():
    assert loaded_modules("import gitract_kit") & HEAVY == set()


def test_the_competitions_own_language_works_without_torch():
    modules = ", ".join(f"gitract_kit.competition.{path.stem}" for path in COMPETITION.glob("[!_]*.py"))
    loaded = loaded_modules(f"import {modules}")
    assert "pandas" in loaded
    assert "torch" not in loaded


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["predict", "--help"]])
def test_help_imports_nothing_heavy(arguments):
    help_then_go_on = (
        "import runpy\ntry: runpy.run_module('gitract_kit', run_name='__main__')\nexcept SystemExit: pass"
    )
    assert loaded_modules(help_then_go_on, *arguments) & HEAVY == set()


@pytest.mark.parametrize("arguments", [["--help"], ["predict", "--help"]])
def test_help_says_how_to_use_it(arguments):
    child = subprocess.run(
        [sys.executable, "-m", "gitract_kit", *arguments], capture_output=True, text=True, check=True
    )
    assert child.stdout.startswith("usage: gitract")
    assert child.stderr == ""


def test_the_names_are_those_the_design_promises():
    promised = {
        *("ORGANS", "rle_encode", "rle_decode", "build_index", "assign_folds", "competition_score"),
        *(
            "write_submission",
            "check_submission",
            "create_model",
            "train_fold",
            "create_bundle",
            "load_bundle",
        ),
        *("Predictor", "__version__"),
    }
    assert set(gitract_kit.__all__) == set(dir(gitract_kit)) == promised


@pytest.mark.parametrize("name", gitract_kit.__all__)
def test_an_exported_name_is_there(name):
    value = getattr(gitract_kit, name)
    if name not in ("ORGANS", "__version__"):
        assert callable(value)
        assert value.__name__ == name
        assert value.__doc__


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'gitract_kit' has no attribute 'segment'"):
        gitract_kit.segment  # noqa: B018
