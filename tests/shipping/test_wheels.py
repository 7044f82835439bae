"""Wheels: what the image lacks and nothing it has, locked, and installed without a network."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from base64 import urlsafe_b64encode
from hashlib import sha256
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from gitract_kit.errors import DatasetError, GitractError, SettingsError
from gitract_kit.shipping.image_packages import ImagePackages, read_image_packages
from gitract_kit.shipping.preflight import check_dataset
from gitract_kit.shipping.verify import verify_folder
from gitract_kit.shipping.wheels import Wheel, create_wheels, lock_lines

REPOSITORY = Path(__file__).resolve().parents[2]
HERE = f"{sys.version_info.major}.{sys.version_info.minor}"
PYTHONS = sorted({HERE, "3.12", "3.13"})


def write_wheel(
    folder: Path, name: str, version: str, *requires: str, tag: str = "py3-none-any", code=""
) -> Path:
    """A wheel of one module."""
    folder.mkdir(exist_ok=True)
    module, info = name.replace("-", "_"), f"{name.replace('-', '_')}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    files = {
        f"{module}/__init__.py": code,
        f"{info}/METADATA": metadata + "".join(f"Requires-Dist: {one}\n" for one in requires),
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: {tag}\n",
    }
    record = [f"{path},sha256={digest(text)},{len(text)}" for path, text in files.items()]
    files[f"{info}/RECORD"] = "\n".join([*record, f"{info}/RECORD,,"]) + "\n"
    path = folder / f"{module}-{version}-{tag}.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name_within, text in files.items():
            archive.writestr(name_within, text)
    return path


def digest(text: str) -> str:
    return urlsafe_b64encode(sha256(text.encode()).digest()).rstrip(b"=").decode()


def write_clone(folder: Path, *requires: str) -> Path:
    """A clone of a kit that needs ``requires``; an old build folder lies about in it."""
    (folder / "gitract_kit").mkdir(parents=True)
    (folder / "gitract_kit" / "__init__.py").write_text('__version__ = "9.0"\n')
    for name in ("README.md", "LICENSE", "pyproject.toml"):
        (folder / name).touch()
    (folder / "setup.py").write_text(
        "from setuptools import setup\n"
        f"setup(name='gitract-kit', version='9.0', packages=['gitract_kit'], install_requires={list(requires)!r})\n"
    )
    (folder / "build" / "lib" / "gitract_kit").mkdir(parents=True)
    (folder / "build" / "lib" / "gitract_kit" / "left_over.py").touch()
    return folder


@pytest.fixture(scope="session")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Packages that pip finds instead of the network's."""
    folder = tmp_path_factory.mktemp("index")
    write_wheel(
        folder,
        "segmentation-models-pytorch",
        "0.6.0",
        "torch>=1.11",
        "timm>=0.9",
        "small-piece>=1",
        "sphinx; extra == 'docs'",
        'older-python; python_version < "3.9"',
    )
    for python in PYTHONS:
        short = python.replace(".", "")
        write_wheel(folder, "small-piece", "1.5", tag=f"cp{short}-cp{short}-manylinux_2_17_x86_64")
    (folder / "only_source-1.0.tar.gz").touch()
    return folder


@pytest.fixture
def _offline_index(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))


@pytest.fixture(scope="session")
def shared_wheels(index: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("wheels")
    clone = write_clone(place / "clone", "torch>=2.4", "numpy>=1.26", "segmentation-models-pytorch>=0.5")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PIP_NO_INDEX", "1")
        patch.setenv("PIP_FIND_LINKS", str(index))
        return create_wheels(place / "made", PYTHONS, source=clone).folder


@pytest.fixture
def wheels(shared_wheels: Path, tmp_path: Path) -> Path:
    """A copy to spoil."""
    return shutil.copytree(shared_wheels, tmp_path / "wheels")


def install(folder: Path, target: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PIP_TARGET": str(target)}
    return subprocess.run(
        [sys.executable, str(folder / "install.py")],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        cwd=folder.parent,
    )


def read_manifest(folder: Path) -> dict:
    return json.loads((folder / "wheels.json").read_text())


def test_a_set_is_what_the_image_lacks_for_each_python(shared_wheels):
    short = [python.replace(".", "") for python in PYTHONS]
    assert sorted(path.name for path in shared_wheels.glob("*.whl")) == sorted(
        [
            "gitract_kit-9.0-py3-none-any.whl",
            "segmentation_models_pytorch-0.6.0-py3-none-any.whl",
            *(f"small_piece-1.5-cp{one}-cp{one}-manylinux_2_17_x86_64.whl" for one in short),
        ]
    )
    manifest = read_manifest(shared_wheels)
    assert manifest["pythons"] == PYTHONS
    by_file = {wheel["file"]: wheel["pythons"] for wheel in manifest["wheels"]}
    assert by_file["gitract_kit-9.0-py3-none-any.whl"] == PYTHONS
    assert by_file["small_piece-1.5-cp313-cp313-manylinux_2_17_x86_64.whl"] == ["3.13"]


def test_a_lock_holds_every_wheels_hash(shared_wheels):
    lock = (shared_wheels / "requirements.lock").read_text().splitlines()

    assert [line.split()[0] for line in lock] == [
        "gitract-kit==9.0",
        "segmentation-models-pytorch==0.6.0",
        "small-piece==1.5",
    ]
    for path in shared_wheels.glob("*.whl"):
        assert f"--hash=sha256:{sha256(path.read_bytes()).hexdigest()}" in "\n".join(lock)


def test_a_lock_tells_pythons_of_other_versions_apart(tmp_path):
    old = Wheel(write_wheel(tmp_path, "piece", "1.0"), ("3.12",))
    new = Wheel(write_wheel(tmp_path, "piece", "2.0"), ("3.13", "3.14"))

    assert [line.partition(" --hash")[0] for line in lock_lines([old, new], ("3.12", "3.13", "3.14"))] == [
        'piece==1.0 ; python_version == "3.12"',
        'piece==2.0 ; python_version == "3.13" or python_version == "3.14"',
    ]


def test_a_set_is_a_dataset_as_it_stands(wheels):
    path = wheels / "dataset-metadata.json"
    # which a push does
    path.write_text(path.read_text().replace("your-kaggle-name", "someone"))

    assert check_dataset(wheels).id == "someone/gitract-wheels"
    held = sorted(one.name for one in wheels.glob("*.whl"))
    assert verify_folder(wheels).files == (*held, "requirements.lock", "install.py")


def test_an_old_build_folder_stays_out_of_the_wheel(shared_wheels):
    with zipfile.ZipFile(shared_wheels / "gitract_kit-9.0-py3-none-any.whl") as archive:
        assert [name for name in archive.namelist() if "left_over" in name] == []


@pytest.mark.parametrize(
    ("requirement", "message"),
    [
        ("torch>=99", r"needs torch>=99, the image has 2\.\d+ to 2\.\d+: the image's own must stay"),
        ("nvidia-cudnn-cu12", "needs nvidia-cudnn-cu12, the image has none: the image's own must stay"),
        ("only-source", "No matching distribution found for only-source.*only wheels are taken"),
    ],
)
@pytest.mark.usefixtures("_offline_index")
def test_what_cannot_travel_is_refused_and_nothing_is_left(requirement, message, tmp_path):
    clone = write_clone(tmp_path / "clone", requirement)
    with pytest.raises(GitractError, match=message):
        create_wheels(tmp_path / "made", ["3.13"], source=clone)
    assert [path.name for path in tmp_path.iterdir()] == ["clone"]


def test_a_folder_in_use_and_a_python_that_is_none_are_refused(tmp_path):
    (tmp_path / "mine").touch()
    with pytest.raises(DatasetError, match="is not empty; give a new folder"):
        create_wheels(tmp_path, ["3.13"])
    with pytest.raises(SettingsError, match=r"the Pythons are \['313'\], expected versions such as 3\.12"):
        create_wheels(tmp_path / "new", ["313"])
    with pytest.raises(DatasetError, match=r"has no setup\.py; run it in a clone"):
        create_wheels(tmp_path / "new", ["3.13"], source=tmp_path)


def test_the_image_satisfies_what_it_has_in_a_sufficient_version():
    image = ImagePackages("2026-11", {"torch": ("2.10", "2.11"), "pyyaml": ()})

    assert image.satisfies(Requirement("Torch>=2.4"))
    assert not image.satisfies(Requirement("torch>=2.11"))
    assert not image.satisfies(Requirement("torch<2.11"))
    assert image.satisfies(Requirement("PyYAML>=6"))
    assert not image.satisfies(Requirement("segmentation-models-pytorch"))


def test_the_image_says_what_it_is_only_assumed_to_have():
    image = ImagePackages("2026-11", {"torch": ("2.10", "2.11"), "pyyaml": ()})

    assert image.only_assumed(Requirement("PyYAML>=6"))
    assert not any(image.only_assumed(Requirement(text)) for text in ("PyYAML", "torch>=2.4", "smp>=1"))
    assert [image.describe(name) for name in ("torch", "pyyaml", "smp")] == [
        "2.10 to 2.11",
        "one of unknown version",
        "none",
    ]


def test_the_images_versions_as_pips_constraints():
    known = {"torch": ("2.10", "2.11"), "albumentations": ("2.0.8",), "dateutil": ("2.9.0.post0",), "pip": ()}

    assert ImagePackages("2026-11", known).constraints() == [
        "torch>=2.10,<2.12",
        "albumentations>=2.0.8,<2.0.9",
        "dateutil>=2.9.0.post0,<2.9.1",
    ]


def test_the_record_is_dated_and_lacks_what_has_to_travel():
    image = read_image_packages()

    assert image.recorded >= "2026-11"
    assert "segmentation-models-pytorch" not in image.versions
    assert {"torch", "torchvision", "numpy", "timm", "safetensors"} <= set(image.versions)
    assert all(
        Version(low) <= Version(high)
        for low, *_, high in filter(lambda known: len(known) > 1, image.versions.values())
    )


def test_what_is_left_to_an_image_of_unknown_version_is_said(index, tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    clone = write_clone(tmp_path / "clone", "matplotlib>=3.8", "torch>=2.4", "nbformat>=5; extra == 'demo'")
    made = create_wheels(tmp_path / "made", ["3.13"], source=clone)

    assert "left to the image, whose version is not known: matplotlib>=3.8 for gitract-kit" in str(made)
    assert read_manifest(made.folder)["left_to_the_image_unknown"] == ["matplotlib>=3.8 for gitract-kit"]


def test_wheels_install_without_a_network(wheels, tmp_path):
    done = install(wheels, tmp_path / "target")

    assert done.returncode == 0, done.stderr
    assert (
        done.stdout.strip() == "installed gitract-kit 9.0, segmentation-models-pytorch 0.6.0, small-piece 1.5"
    )
    assert (tmp_path / "target" / "small_piece" / "__init__.py").is_file()


@pytest.mark.parametrize("inside", [True, False], ids=["each in a folder", "all beside each other"])
def test_wheels_that_were_unpacked_are_taken_too(wheels, tmp_path, inside):
    pythons = {entry["file"]: entry["pythons"] for entry in read_manifest(wheels)["wheels"]}
    for path in list(wheels.glob("*.whl")):
        if not inside and HERE not in pythons[path.name]:
            # side by side, those of several Pythons would overwrite each other
            continue
        with zipfile.ZipFile(path) as archive:
            archive.extractall(wheels / path.stem if inside else wheels)
        path.unlink()

    done = install(wheels, tmp_path / "target")

    assert done.returncode == 0, done.stderr
    assert (tmp_path / "target" / "gitract_kit" / "__init__.py").read_text() == '__version__ = "9.0"\n'


def alter_wheel(folder: Path) -> None:
    path = next(folder.glob("small_piece*.whl"))
    for one in folder.glob("small_piece*.whl"):
        one.write_bytes(one.read_bytes()[:-1] + b"x")
    assert path.is_file()


def unpack_and_alter(folder: Path) -> None:
    path = folder / "segmentation_models_pytorch-0.6.0-py3-none-any.whl"
    with zipfile.ZipFile(path) as archive:
        archive.extractall(folder / "unpacked")
    path.unlink()
    (folder / "unpacked" / "segmentation_models_pytorch" / "__init__.py").write_text("other = 1")


def lose_wheel(folder: Path) -> None:
    (folder / "segmentation_models_pytorch-0.6.0-py3-none-any.whl").unlink()


def take_another_python(folder: Path) -> None:
    (folder / "wheels.json").write_text(json.dumps({**read_manifest(folder), "pythons": ["3.8"]}))


def break_import(folder: Path) -> None:
    (folder / "wheels.json").write_text(
        json.dumps({**read_manifest(folder), "imports": ["not_there_at_all"]})
    )


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (alter_wheel, "pip could not install the wheels"),
        (unpack_and_alter, "__init__.py is missing or altered; upload the folder"),
        (lose_wheel, "lacks segmentation_models_pytorch-0.6.0-py3-none-any.whl, and no folder of it holds"),
        (
            take_another_python,
            f"runs Python {HERE}, the wheels are for 3.8: make them again with `gitract wheels",
        ),
        (break_import, "`import not_there_at_all` fails"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_wheels_at_fault_are_refused_with_a_remedy(spoil, message, wheels, tmp_path):
    spoil(wheels)
    done = install(wheels, tmp_path / "target")

    assert done.returncode == 1
    assert message in done.stderr


def find_interpreter(python: str) -> list[str]:
    """The command of a Python of that version: by its name, or one of pyenv's that is not switched on."""
    switched_off = subprocess.run(
        ["pyenv", "versions", "--bare"], capture_output=True, text=True, check=False
    )
    for version in ["", *switched_off.stdout.split()] if shutil.which("pyenv") else [""]:
        command = ["env", *([f"PYENV_VERSION={version}"] if version else []), f"python{python}"]
        ask = [*command, "-c", "import sys; print(sys.executable)"]
        answer = subprocess.run(ask, capture_output=True, text=True, check=False)
        if answer.returncode == 0:
            return [answer.stdout.strip()]
    return []


@pytest.mark.slow
@pytest.mark.parametrize("python", ["3.12", "3.13"])
def test_the_kit_itself_installs_on_a_fresh_python_beside_a_torch_that_stays(python, tmp_path, monkeypatch):
    interpreter = find_interpreter(python)
    if not interpreter:
        pytest.skip(f"there is no python{python} here")
    index = tmp_path / "index"
    write_wheel(index, "segmentation-models-pytorch", "0.6.0", "torch>=1.11", code="import torch\n")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    made = create_wheels(tmp_path / "made", [python], source=REPOSITORY).folder
    # without what starts every Python of the tests: it belongs to another environment
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    fresh = tmp_path / "fresh"
    subprocess.run([*interpreter, "-m", "venv", str(fresh)], check=True, env=environment)
    torch = write_wheel(tmp_path / "image", "torch", "2.10", code='__version__ = "2.10"\n')
    pip = [str(fresh / "bin" / "python"), "-m", "pip", "install", "--no-index", "--quiet"]
    subprocess.run([*pip, str(torch)], check=True, env=environment)

    done = subprocess.run(
        [str(fresh / "bin" / "python"), str(made / "install.py")],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    seen = subprocess.run(
        [
            str(fresh / "bin" / "python"),
            "-c",
            "import gitract_kit, segmentation_models_pytorch, torch; print(torch.__version__, gitract_kit.ORGANS[0])",
        ],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
    )
    assert seen.stdout.split() == ["2.10", "large_bowel"]
