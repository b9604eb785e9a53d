"""The one exception whose message is meant for people, and the one of a SIGTERM."""

import re

# What went wrong on the way to a server: libraries wrap it several times, and quote the URL.
NETWORK = re.compile(r"Failed to resolve '[^']*'|Connection refused|timed out|Network is unreachable")


class Failure(Exception):
    """A failure that one or two lines explain: what is wrong, its value, and the way out.

    The command line prints the message alone and exits with 1. An address in it loses its password.
    """

    def __init__(self, message: str) -> None:
        super().__init__(mask_passwords(message))


class Stopped(KeyboardInterrupt):
    """A SIGTERM. Unlike Ctrl-C in a terminal, it reaches this process alone, and none that it started."""


def mask_passwords(text: str) -> str:
    """The text with *** for the user and password of each address in it."""
    return re.sub(r"(?<=//)[^/\s]*@", "***@", text)


def summarize(error: BaseException, most: int = 300) -> str:
    """An error's message on one line, at most `most` characters of it, without passwords."""
    return (" ".join(mask_passwords(str(error)).split()) or type(error).__name__)[:most]
