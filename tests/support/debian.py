"""Programs of Debian packages for the tests: those of this machine, else unpacked into a cache, without root."""

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from support.services import BrokenServiceError, MissingServiceError

#: what packages were unpacked into on this machine; removed by hand only
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tagmill-tests"


@dataclass(frozen=True)
class Program:
    """A program, and the folder of the unpacked package that it is in: None if it is installed."""

    path: Path
    package: Path | None = None

    def command(self, *words: object) -> list[str]:
        """Return the command that runs it with the libraries that were unpacked beside it."""
        shared = self.package.glob("**/lib*.so.*") if self.package else ()
        libraries = os.pathsep.join(sorted({str(path.parent) for path in shared}))
        return [*(["env", f"LD_LIBRARY_PATH={libraries}"] if libraries else []), str(self.path), *map(str, words)]

    def copied(self, folder: Path) -> "Program":
        """Return a copy in a new folder, for a user that may not enter this one's home. What is installed stays."""
        if self.package is None:
            return self
        shutil.copytree(self.package, folder, symlinks=True)
        return Program(folder / self.path.relative_to(self.package), folder)


def find_program(name: str, *packages: str) -> Program:
    """Return a program from PATH or /usr/sbin, else from Debian's or Ubuntu's package, by default of the same name.

    The packages are downloaded with the libraries that they depend on, once. Raise MissingServiceError on a system
    without apt-get, and BrokenServiceError if nothing can be downloaded: a skipped test proves nothing.
    """
    if found := shutil.which(name) or shutil.which(f"/usr/sbin/{name}"):
        return Program(Path(found))
    packages = packages or (name,)
    folder = CACHE / packages[0]
    if not folder.is_dir():
        _unpack(packages, folder)
    for path in (folder / "usr" / "bin" / name, folder / "usr" / "sbin" / name):
        if path.exists():
            return Program(path, folder)
    raise BrokenServiceError(f"the package {packages[0]} in {folder} has no program {name}")


def _unpack(packages: Sequence[str], folder: Path) -> None:
    if not all(map(shutil.which, ("apt-get", "apt-cache", "dpkg"))):
        raise MissingServiceError(f"these tests need {packages[0]}: install it with your system's package manager")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as name:
        state = Path(name)
        # Lists of our own: those of the machine may be missing or old, and only root may renew them.
        apt = [f"-oDir::State={state / 'state'}", f"-oDir::Cache={state / 'cache'}"]
        apt += ["-oAPT::Sandbox::User=", "-oAcquire::Retries=3"]
        (state / "state" / "lists" / "partial").mkdir(parents=True)
        _run(state, "apt-get", *apt, "-q", "update")
        depends = _run(state, "apt-cache", *apt, "depends", *packages)
        # libjs-*: scripts of a package's web pages; lua-*: libraries of Redis
        libraries = set(re.findall(r"^ +Depends: ((?:lib(?!js-)|lua-)\S+)", depends, re.MULTILINE)) - {"libc6"}
        _run(state, "apt-get", *apt, "-q", "download", *packages, *sorted(libraries))
        for file in state.glob("*.deb"):
            _run(state, "dpkg", "-x", str(file), str(state / "root"))
        try:
            (state / "root").rename(folder)
        except OSError:
            if not folder.is_dir():  # else another process of pytest-xdist was faster
                raise


def _run(folder: Path, *command: str) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BrokenServiceError(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return done.stdout
