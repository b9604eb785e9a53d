"""What git says of the project."""

from __future__ import annotations

import subprocess


def git(*arguments: str, strip: bool = True) -> str | None:
    """The output of a git command; None without git, without a repository, or when the command fails."""
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=True, timeout=30)
    except (OSError, UnicodeDecodeError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() if strip else done.stdout
