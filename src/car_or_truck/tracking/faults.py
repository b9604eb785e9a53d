"""What is wrong with a store that cannot be used, in words, and the way out."""

from __future__ import annotations

from mlflow.exceptions import RestException

from car_or_truck.errors import NETWORK, Failure, summarize
from car_or_truck.tracking import permissions

LOCAL = "sqlite:///"
HEALTHY = {  # what SQLite and MLflow say of a store that is whole, and what to do
    "database is locked": "Another process writes to it: try again.",
    "is full": "Free some space on its disk.",
    "readonly database": "Make it and its folder writable.",
    "unable to open": "Make it and its folder readable and writable.",
    "out-of-date database schema": (
        "Another version of MLflow made it. If that was an older one, copy the file and run `mlflow db upgrade` with "
        "this address; else install that version."
    ),
}
DAMAGED = ("malformed", "not a database", "no such table", "no such column")
MOVE_AWAY = "Move it away; `car-or-truck sync` then rebuilds the runs of all models in models/."


def unusable(error: Exception, where: str) -> Failure:
    """The Failure for the store `where`, which does not answer, or refuses."""
    if permissions.is_refusal(error):
        return permissions.forbidden(f"do this on {where}")
    if where.startswith(LOCAL):
        cure = remedy(error, MOVE_AWAY if any(sign in str(error) for sign in DAMAGED) else "")
    elif getattr(error, "error_code", None) == "UNAUTHENTICATED":
        cure = "Set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD to those of an account there."
    else:
        answered = isinstance(error, RestException)  # so its server is up
        cure = "" if answered else "Start its server, or unset MLFLOW_TRACKING_URI to use mlflow.db here."
    why = [*NETWORK.findall(str(error)), summarize(error).partition(". ")[0]][0]
    return Failure(f"The MLflow store {where} cannot be used: {why.rstrip('.')}. {cure}".rstrip())


def remedy(error: BaseException, otherwise: str) -> str:
    """What to do about an error of SQLite's or MLflow's: as HEALTHY has it if the database is whole."""
    return next((cure for sign, cure in HEALTHY.items() if sign in str(error)), otherwise)
