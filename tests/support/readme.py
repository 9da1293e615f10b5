"""A distribution's README: its sections, and its blocks run as a reader would paste them."""

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.support.app import API_KEY
from tests.support.rendered import ROOT


class Readme:
    """The README of one folder of the repository."""

    def __init__(self, folder: str) -> None:
        self._text = (ROOT / folder / "README.md").read_text()

    def section(self, heading: str) -> str:
        (section,) = [part for part in self._text.split("\n## ") if part.startswith(f"{heading}\n")]
        return section

    def blocks(self, heading: str, language: str) -> list[str]:
        return re.findall(rf"```{language}\n(.*?)```", self.section(heading), re.DOTALL)

    def paste(self, heading: str, url: str, home: Path) -> str:
        """Run the section's shell block at this control plane; return what it printed."""
        (script,) = self.blocks(heading, "sh")
        script, addresses = re.subn(r"AITP_CP_URL=\S+", f"AITP_CP_URL={url}", script)
        assert addresses == 1
        (home / ".config").mkdir(exist_ok=True)
        (home / ".config" / "aitp-cp.key").write_text(API_KEY)
        return self.run(["bash", "-eu", "-c", script], url, home, AITP_CP_API_KEY="")

    def run(self, command: list[str], url: str, home: Path, **variables: str) -> str:
        """Run a command in an empty home folder; return its output, once it has succeeded without a complaint."""
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        environ = {"PATH": path, "HOME": str(home), "LC_ALL": "C.UTF-8", "AITP_CP_URL": url, "AITP_CP_API_KEY": API_KEY}
        done = subprocess.run(
            command, env=environ | variables, cwd=home, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout
