"""The rehearsal of the real notebook, and the verdict on each thing that goes wrong on Kaggle."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from gitract_kit.cli import main
from gitract_kit.errors import DatasetError, SettingsError
from gitract_kit.shipping import fresh_environment, install_wheels
from gitract_kit.shipping.drills import DRILLS, WHEEL_DRILLS, run_drill
from gitract_kit.shipping.fresh_environment import (
    Interpreter,
    create_fresh_environment,
    create_image_environment,
    find_interpreter,
)
from gitract_kit.shipping.mounts import Materials
from gitract_kit.shipping.rehearse import rehearse

KERNEL = Path(__file__).resolve().parents[2] / "kernels" / "inference"


@pytest.fixture
def wheels(tmp_path: Path) -> Path:
    """A set as `gitract wheels` lays it out, of wheels that no drill comes to install."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    entries = []
    for name in ("gitract_kit-0.1.0", "segmentation_models_pytorch-0.6.0"):
        (folder / f"{name}-py3-none-any.whl").write_bytes(b"PK")
        about = {"file": f"{name}-py3-none-any.whl", "distribution": name, "sha256": "", "record_sha256": ""}
        entries.append({**about, "pythons": ["3.11", "3.12", "3.13"]})
    manifest = {"pythons": ["3.11", "3.12", "3.13"], "imports": [], "wheels": entries[::-1]}
    (folder / "wheels.json").write_text(json.dumps(manifest))
    shutil.copyfile(install_wheels.__file__, folder / "install.py")
    return folder


@pytest.fixture
def other_wheels(wheels) -> Path:
    """The set, for Pythons that this is none of."""
    manifest = json.loads((wheels / "wheels.json").read_text())
    (wheels / "wheels.json").write_text(json.dumps({**manifest, "pythons": ["3.8", "3.9"]}))
    return wheels


@pytest.fixture
def played(monkeypatch) -> list[SimpleNamespace]:
    """What drills would have played, each judged as scored; no notebook is executed."""
    seen: list[SimpleNamespace] = []

    def play_acts(acts, materials, out, hidden, **options):
        seen.append(SimpleNamespace(name=out.parent.name, hidden=hidden, **options))
        return SimpleNamespace(scored=True, verdict="would have been scored")

    monkeypatch.setattr("gitract_kit.shipping.drills.play_acts", play_acts)
    return seen


@pytest.mark.slow
@pytest.mark.parametrize("name", DRILLS)
def test_a_drill_is_judged_rightly(name, phantom, bundle, wheels, tmp_path):
    about_wheels = wheels if name.startswith("wheel") else None
    report = run_drill(name, Materials(phantom.root, (bundle,), KERNEL, about_wheels), tmp_path / "out")

    assert report.right, report
    assert report.rehearsal.scored is (name in ("sample-reordered", "time-short"))
    assert "\n" not in str(report)


@pytest.mark.slow
def test_the_notebook_passes_in_both_layouts_and_both_saves(phantom, bundle, tmp_path):
    result = rehearse(phantom.root, bundle, KERNEL, tmp_path / "out")

    assert result.scored, result
    assert [report.fault for report in result.reports] == [None] * 4
    assert result.verdict.startswith("would have been scored, 0.")
    assert "nothing tried it" in str(result)
    assert "50 cases take" in str(result)


def test_drills_spoil_copies_alone(phantom, bundle, wheels, tmp_path):
    def contents(folder: Path) -> dict[str, bytes]:
        return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}

    materials = Materials(phantom.root, (bundle,), KERNEL, wheels)
    before = [contents(folder) for folder in (phantom.root, bundle, wheels)]
    for name, spoil in DRILLS.items():
        (tmp_path / name).mkdir()
        spoil(materials, tmp_path / name)

    assert [contents(folder) for folder in (phantom.root, bundle, wheels)] == before


def test_a_drill_that_is_none_and_wheels_that_are_not_there_are_refused(phantom, bundle, tmp_path):
    materials = Materials(phantom.root, (bundle,), KERNEL)
    with pytest.raises(SettingsError, match="no drill is called 'fire'; there are wheel-missing, "):
        run_drill("fire", materials, tmp_path / "one")
    with pytest.raises(DatasetError, match="a drill of the wheels needs wheels"):
        run_drill("wheel-missing", materials, tmp_path / "two")


def test_a_fresh_environment_without_wheels_is_refused(phantom, bundle, tmp_path):
    with pytest.raises(DatasetError, match="a fresh environment lacks the kit: name the wheels"):
        rehearse(phantom.root, bundle, KERNEL, tmp_path / "out", fresh=True)


def test_a_fresh_environment_has_the_images_packages_and_not_what_travels(tmp_path):
    python = create_fresh_environment(tmp_path / "fresh")
    ask = (
        "import importlib.util as u\n"
        "names = 'torch cv2 timm pip ipykernel yaml gitract_kit segmentation_models_pytorch'\n"
        "for name in names.split():\n"
        "    print(name, u.find_spec(name) is not None)"
    )
    answer = subprocess.run(
        [str(python), "-c", ask], capture_output=True, text=True, check=True, env={}, cwd=tmp_path
    )

    found = dict(line.split() for line in answer.stdout.splitlines())
    assert found.pop("gitract_kit") == found.pop("segmentation_models_pytorch") == "False"
    assert set(found.values()) == {"True"}


def test_an_interpreter_is_found_by_version_and_by_path():
    here = f"{sys.version_info.major}.{sys.version_info.minor}"

    assert find_interpreter(here).version.startswith(f"{here}.")
    assert "torch" in find_interpreter(sys.executable).packages
    assert find_interpreter(sys.executable).describe().startswith(f"Python {here}.")
    with pytest.raises(SettingsError, match=r"there is no Python 3\.0 here, neither python3\.0 on the PATH"):
        find_interpreter("3.0")


def test_the_images_packages_are_asked_for_in_the_images_versions(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(fresh_environment, "_run", asked.append)
    monkeypatch.setattr(fresh_environment, "_ask", lambda python: python)
    (tmp_path / "image").mkdir()
    create_image_environment(tmp_path / "image", Interpreter(Path("/somewhere/python3.13"), "3.13.0", ()))

    environment, install = asked
    assert environment == ["/somewhere/python3.13", "-m", "venv", str(tmp_path / "image")]
    assert {"torch", "timm", "albumentations", "torchvision", "ipykernel"} <= set(install)
    assert "segmentation-models-pytorch" not in install
    constraints = Path(install[install.index("--constraint") + 1]).read_text().splitlines()
    assert "torch>=2.10,<2.12" in constraints
    assert "numpy>=2.0,<2.2" in constraints


def test_wheels_for_other_pythons_are_not_rehearsed_on_this_one(phantom, bundle, other_wheels, tmp_path):
    with pytest.raises(
        SettingsError, match=r"are for 3\.8, 3\.9: rehearse with one of these, --python 3\.9, or"
    ):
        rehearse(phantom.root, bundle, KERNEL, tmp_path / "out", wheels=other_wheels, fresh=True)


def test_wheels_for_other_pythons_are_not_put_beside_the_present_packages(
    phantom, bundle, other_wheels, tmp_path
):
    advice = r"are for 3\.8, 3\.9: .* --python 3\.9 without --fast, or leave the wheels out"
    with pytest.raises(SettingsError, match=advice):
        rehearse(phantom.root, bundle, KERNEL, tmp_path / "out", wheels=other_wheels)
    with pytest.raises(SettingsError, match=advice):
        run_drill(
            "weights-corrupted", Materials(phantom.root, (bundle,), KERNEL, other_wheels), tmp_path / "out"
        )
    assert not (tmp_path / "out").exists()


def test_wheels_that_do_not_say_what_they_are_for_are_refused(phantom, bundle, wheels, tmp_path):
    (wheels / "wheels.json").write_text('{"pythons": "3.13"}')
    with pytest.raises(DatasetError, match=r"wheels\.json does not list the Pythons it is for"):
        rehearse(phantom.root, bundle, KERNEL, tmp_path / "out", wheels=wheels)


def test_drills_are_played_on_the_python_and_by_the_truth_that_were_named(
    phantom, bundle, other_wheels, played, monkeypatch, tmp_path
):
    made = Interpreter(tmp_path / "made", "3.9.0", ())
    monkeypatch.setattr(
        "gitract_kit.shipping.rehearse.find_interpreter",
        lambda wanted: Interpreter(Path("/somewhere/python3.9"), f"{wanted}.0", ()),
    )
    installed = []
    monkeypatch.setattr(
        "gitract_kit.shipping.rehearse.create_image_environment",
        lambda place, python: installed.append(python.version) or made,
    )
    truth = tmp_path / "empty.csv"
    rows = [row.rpartition(",")[0] + ",\n" for row in phantom.solution.read_text().splitlines()[1:]]
    truth.write_text("id,class,segmentation\n" + "".join(rows))
    names = ("sample-reordered", "wheel-other-python", "sample-reordered")
    main(
        ["rehearse", str(phantom.root), "--bundle", str(bundle), "--wheels", str(other_wheels)]
        + ["--python", "3.9", "--truth", str(truth), "-o", str(tmp_path / "out")]
        + [option for name in names for option in ("--drill", name)]
    )

    assert [one.name for one in played] == ["sample-reordered", "wheel-other-python"]
    assert all(one.image is made for one in played)
    # several GB: once for all drills
    assert installed == ["3.9.0"]
    assert all(not one.hidden.truth["segmentation"].any() for one in played)


def test_all_drills_without_wheels_are_all_but_those_of_the_wheels(phantom, bundle, played, tmp_path, capsys):
    command = ["rehearse", str(phantom.root), "--bundle", str(bundle), "--drill", "all"]
    main([*command, "-o", str(tmp_path / "out")])

    assert [one.name for one in played] == [name for name in DRILLS if name not in WHEEL_DRILLS]
    assert all(one.image is None for one in played)
    told = capsys.readouterr().err
    for name in WHEEL_DRILLS:
        assert f"{name} is left out: it needs the wheels that `gitract wheels` makes" in told


def test_a_drill_into_a_folder_in_use_is_refused_and_nothing_is_played(
    phantom, bundle, played, tmp_path, capsys
):
    command = ["rehearse", str(phantom.root), "--bundle", str(bundle), "-o", str(tmp_path / "out"), "--drill"]
    main([*command, "time-short"])
    assert main([*command, "test-empty", "--drill", "time-short"]) == 2

    assert f"{tmp_path / 'out' / 'time-short'} is not empty; give a new folder" in capsys.readouterr().err
    assert [one.name for one in played] == ["time-short"]


def test_no_test_set_is_made_up_where_it_could_not_be_played(bundle, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("gitract_kit.competition.phantom.write_phantom", lambda *_, **__: pytest.fail("made"))
    (tmp_path / "file").touch()
    assert main(["rehearse", "--bundle", str(bundle), "-o", str(tmp_path / "file")]) == 2
    assert "file is not a folder; give a new one" in capsys.readouterr().err


def test_another_python_needs_a_fresh_environment(phantom, bundle, tmp_path):
    with pytest.raises(SettingsError, match="another Python is one of a fresh environment: name wheels"):
        rehearse(phantom.root, bundle, KERNEL, tmp_path / "out", python="3.13")


def test_a_rehearsal_that_was_refused_can_be_begun_again(phantom, monkeypatch, tmp_path, capsys):
    made = []

    def write_phantom(out, **_):
        made.append(shutil.copytree(phantom.root.parent, out))
        return SimpleNamespace(root=out / phantom.root.name)

    monkeypatch.setattr("gitract_kit.competition.phantom.write_phantom", write_phantom)
    for _ in range(2):
        assert main(["rehearse", "--bundle", str(tmp_path / "none"), "-o", str(tmp_path / "out")]) == 2
        assert "none is not a folder; give the folder itself" in capsys.readouterr().err
    assert len(made) == 1
    assert main(["rehearse", "-o", str(tmp_path / "out")]) == 2
    assert "nothing to predict with: give --bundle DIR" in capsys.readouterr().err
