"""The wheel holds the program and its configs and nothing else, and works from any folder."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from genlab import __version__

ROOT = Path(__file__).resolve().parents[1]


def run(*words: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    built = run("-m", "hatchling", "build", "-t", "wheel", "-d", str(folder), cwd=ROOT)
    assert built.returncode == 0, built.stderr
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def unzipped(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unzipped")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def test_wheel_holds_the_package_and_the_configs_and_nothing_else(wheel: Path) -> None:
    code = {path.relative_to(ROOT).as_posix() for path in ROOT.glob("genlab/**/*.py")}
    configs = {f"genlab/{path.relative_to(ROOT).as_posix()}" for path in ROOT.glob("configs/**/*.yaml")}
    assert configs
    about = f"genlab-{__version__}.dist-info/"
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert {name for name in names if not name.startswith(about)} == code | configs
    assert {f"{about}METADATA", f"{about}entry_points.txt", f"{about}licenses/LICENSE"} <= names


def test_program_from_the_wheel_finds_its_configs_in_a_foreign_folder(unzipped: Path, tmp_path: Path) -> None:
    here = {"cwd": tmp_path, "PYTHONPATH": str(unzipped)}
    where = run("-c", "from genlab import cli; print(cli.config_folder())", **here)
    assert where.stdout.strip() == str(unzipped / "genlab" / "configs")
    assert "Usage: genlab" in run("-m", "genlab", "-h", **here).stdout
    listed = run("-m", "genlab", "list", "models", **here).stdout.splitlines()
    assert [line.split()[0] for line in listed] == sorted(path.stem for path in ROOT.glob("configs/model/*.yaml"))


def test_program_from_the_wheel_composes_its_configs_in_a_foreign_folder(unzipped: Path, tmp_path: Path) -> None:
    composed = run("-m", "genlab", "train", "data=toy2d", "--cfg", "job", cwd=tmp_path, PYTHONPATH=str(unzipped))
    assert composed.returncode == 0, composed.stderr
    assert "genlab.data.toy2d.Toy2D" in composed.stdout
    assert not any(tmp_path.iterdir())
