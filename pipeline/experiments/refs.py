"""Records as commits in Git: one ref each, refs/molar/experiments/<address>, on whatever remote has the code.

A commit holds the files of one record and has no parent, author or date of its own, so equal records are one commit.
Plumbing alone makes and reads it: index, working tree and branches stay as they are, and a plain `git clone` does not
bring the refs. One ref a record, and never by force: two who push rows of one table lose neither's, and a record that
is there stays.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import MolarError

NAMESPACE = "refs/molar/experiments/"
NOBODY = {
    f"GIT_{who}_{what}": value
    for who in ("AUTHOR", "COMMITTER")
    for what, value in (("NAME", "molar"), ("EMAIL", "molar"), ("DATE", "@0 +0000"))
}


@dataclass(frozen=True)
class Refs:
    """Records on the Git remote `remote` of the checkout at `root`."""

    root: Path
    remote: str

    def there(self) -> dict[str, str]:
        """Address -> commit of each. Raises MolarError: no such remote, or it does not answer."""
        known = self._git("remote").decode().split()
        if self.remote not in known and not any(mark in self.remote for mark in "/:"):
            listed = f"there are: {', '.join(known)}" if known else "there is none: `git remote add origin URL`"
            raise MolarError(f"this checkout has no Git remote {self.remote!r} ({listed}; --git-remote names another)")
        lines = self._git("ls-remote", self.remote, f"{NAMESPACE}*").decode().splitlines()
        return {ref.removeprefix(NAMESPACE): sha for sha, ref in (line.split("\t") for line in lines)}

    def committed(self, files: Mapping[str, bytes]) -> str:
        """Those files as a commit, which no ref names yet."""
        blobs = {name: self._git("hash-object", "-w", "--stdin", input=files[name]).decode().strip() for name in files}
        entries = "".join(f"100644 blob {blob}\t{name}\n" for name, blob in blobs.items())
        tree = self._git("mktree", input=entries.encode()).decode().strip()
        return self._git("commit-tree", tree, "-m", "A record of molar experiment", environment=NOBODY).decode().strip()

    def send(self, commits: Mapping[str, str]) -> None:
        """Address -> commit onto the remote. Raises MolarError: it refuses one that somebody sent meanwhile, or all."""
        if commits:
            self._git("push", "-q", self.remote, *(f"{sha}:{NAMESPACE}{address}" for address, sha in commits.items()))

    def fetch(self, addresses: Iterable[str]) -> None:
        """Bring their commits here; no ref of this repository changes."""
        refs = [f"{NAMESPACE}{address}" for address in addresses]
        if refs:
            self._git("fetch", "-q", "--no-tags", "--no-write-fetch-head", self.remote, *refs)

    def files(self, commit: str) -> dict[str, bytes]:
        names = self._git("ls-tree", "--name-only", "-z", commit).decode().split("\0")
        return {name: self._git("cat-file", "blob", f"{commit}:{name}") for name in names if name}

    def _git(self, *arguments: str, input: bytes = b"", environment: Mapping[str, str] | None = None) -> bytes:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_DIR")}
        kept |= {"LC_ALL": "C"} | dict(environment or {})
        done = subprocess.run(
            ["git", *arguments], cwd=self.root, env=kept, input=input, check=False, capture_output=True
        )
        if done.returncode:
            lines = [line.strip() for line in done.stderr.decode(errors="replace").splitlines() if line.strip()]
            told = [line for line in lines if line.startswith(("fatal:", "!", "error:", "ssh:"))]
            words = " ".join((told or lines or ["no words"])[0].split())
            where = f" (Git remote {self.remote!r})" if self.remote in arguments else ""
            raise MolarError(f"git {arguments[0]}{where}: {words}; put that right and run the same command again")
        return done.stdout
