"""The one exception that is meant for people."""


class Failure(Exception):
    """Something went wrong that one or two lines can explain: what, its value, and the way out.

    The command line prints the message alone and exits with 1.
    """
