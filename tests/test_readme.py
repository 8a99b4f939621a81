"""What the README shows works as it is written: every command line composes, and the code of one's own runs."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from genlab.cli import COMMANDS, LISTS, config_folder
from genlab.runner.arguments import prepared, split
from genlab.runner.schema import register

README = (Path(__file__).resolve().parents[1] / "README.md").read_text(encoding="utf-8")
SHELL = "\n".join(re.findall(r"^```sh\n(.*?)^```", README, re.MULTILINE | re.DOTALL))
SHOWN = re.findall(r"^genlab .*", SHELL, re.MULTILINE) + re.findall(r"`(genlab [^`\n]+)`", README)
LINES = sorted({" ".join(shlex.split(line, comments=True)[1:]) for line in SHOWN})


def files() -> dict[str, str]:
    """The blocks that follow the name of a file."""
    return dict(re.findall(r"`(\S+\.(?:py|yaml))`:\n\n```\w+\n(.*?)^```", README, re.MULTILINE | re.DOTALL))


@pytest.mark.parametrize("line", LINES)
def test_command_lines_name_what_there_is(line: str) -> None:
    command, *words = line.split()
    assert command in ("-h", *COMMANDS)
    if command == "list":
        assert words[0] in LISTS
    if command in ("-h", "list", "compare"):
        return
    if "-h" in words or "--config-dir" in words or words[0].startswith("resume="):
        return
    register()
    overrides = [word for word in prepared(command, split(words)) if word != "-m"]
    if "-m" in words:
        overrides = [override if "[" in override else override.split(",")[0] for override in overrides]
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        compose(command, overrides)


def test_a_model_and_a_data_set_of_ones_own(tmp_path: Path) -> None:
    for name, text in files().items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    (section,) = re.findall(r"^```sh\n(export .*?)^```", README, re.MULTILINE | re.DOTALL)
    (notebook,) = re.findall(r"^### In a notebook\n\n```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    (tmp_path / "notebook.py").write_text(notebook + "assert len(images) == 16\n", encoding="utf-8")
    section = section.replace("genlab train", "genlab train trainer=debug trainer.preview_every=0")
    script = f'set -e\ngenlab() {{ "{sys.executable}" -m genlab "$@"; }}\n{section}\n"{sys.executable}" notebook.py\n'
    # The program itself is that of this checkout, wherever the environment has it from.
    script = script.replace("PYTHONPATH=.", f"PYTHONPATH=.:{shlex.quote(str(Path(__file__).resolve().parents[1]))}")
    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, env=os.environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " nats " in done.stdout
    assert len(list(tmp_path.glob("outputs/*/checkpoints/last.ckpt"))) == 2
