"""What a tracking server with accounts does not permit, in words: who may not do what."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from mlflow.exceptions import MlflowException
from mlflow.utils.credentials import read_mlflow_creds

from car_or_truck.errors import Failure


def is_refusal(error: Exception) -> bool:
    """Whether a server knows the person, and does not permit the request."""
    return getattr(error, "error_code", None) == "PERMISSION_DENIED"


def is_denied(error: Exception) -> bool:
    """Whether a server answered that this person may not do that (401 or 403)."""
    answer = getattr(error, "response", None)  # of an artifact's request, which requests itself raises
    code = error.get_http_status_code() if isinstance(error, MlflowException) else getattr(answer, "status_code", None)
    return code in (401, 403)


def forbidden(action: str) -> Failure:
    """The Failure for an action that the server does not permit."""
    who = read_mlflow_creds().username or "Someone without an account"
    return Failure(f"{who} may not {action}. The server's administrator can permit it: see docs/team.md.")


@contextmanager
def refusals_explained(action: str) -> Iterator[None]:
    """Turn the server's refusal of what the block does into a Failure."""
    try:
        yield
    except MlflowException as error:
        if is_refusal(error):
            raise forbidden(action) from error
        raise
