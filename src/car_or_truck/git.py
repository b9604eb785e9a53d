"""What git says of the project."""

from __future__ import annotations

import getpass
import subprocess

PATCH = ("--binary", "-U3", "--no-ext-diff", "--no-textconv", "--no-color", "--src-prefix=a/", "--dst-prefix=b/")


def git(*arguments: str) -> str | None:
    """The output of a git command; None without git, without a repository, or when the command fails."""
    try:
        return _run(*arguments, passing=(0,)).decode().rstrip()  # the first column of `git status` may be a space
    except (OSError, UnicodeDecodeError, subprocess.SubprocessError):
        return None


def changes(commit: str) -> bytes:
    """What differs from `commit`, as `git apply` takes it: new files in src/ too, but no results, which a run changes.

    Empty without git, and when nothing differs.
    """
    new = (git("ls-files", "-z", "--others", "--exclude-standard", "--", "src") or "").split("\0")
    try:  # in bytes, because files may have any encoding and line ends
        patch = _run("diff", *PATCH, commit, "--", ".", ":!dvc.lock", ":!reports", passing=(0,))
        return patch + b"".join(
            _run("diff", "--no-index", *PATCH, "--", "/dev/null", path, passing=(0, 1)) for path in new if path
        )
    except (OSError, subprocess.SubprocessError):
        return b""


def _run(*arguments: str, passing: tuple[int, ...]) -> bytes:
    process = subprocess.run(["git", *arguments], capture_output=True, timeout=30)
    if process.returncode not in passing:
        raise subprocess.CalledProcessError(process.returncode, "git")
    return process.stdout


def person() -> str:
    """Who works here: git's user, or else the login."""
    try:
        return git("config", "user.name") or getpass.getuser()
    except (OSError, KeyError):
        return "unknown"
