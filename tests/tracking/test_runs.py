"""Whether a run can be used, as the project's own store says, or cannot say."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from mlflow.entities import LoggedModelOutput
from mlflow.exceptions import MlflowException
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

from car_or_truck.tracking import runs
from helpers.stores import Store


def trained(store: Store) -> tuple[str, str]:
    """A finished run and its logged model."""
    run_id = store.train("net")
    (model,) = store.client.search_logged_models([store.experiment])
    store.client.log_outputs(run_id, [LoggedModelOutput(model.model_id, 0)])
    return run_id, model.model_id


@pytest.mark.parametrize(
    ("use", "method"),
    [(runs.is_whole, "get_run"), (runs.is_whole, "get_logged_model"), (runs.can_continue, "get_run")],
)
def test_a_store_that_is_locked_is_not_taken_for_one_that_lost_the_run(
    use: Callable[[str], bool], method: str, small_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id, _ = trained(small_store)

    def locked(*_: object, **__: object) -> None:
        raise MlflowException("(sqlite3.OperationalError) database is locked")

    monkeypatch.setattr(SqlAlchemyStore, method, locked)
    with pytest.raises(MlflowException, match="database is locked"):
        use(run_id)


def test_a_run_is_whole_while_the_store_has_it_and_its_model(small_store: Store) -> None:
    run_id, model_id = trained(small_store)
    assert runs.is_whole(run_id)
    assert not runs.is_whole("0" * 32)
    small_store.client.delete_logged_model(model_id)
    assert not runs.is_whole(run_id)
    killed = small_store.train("other", "KILLED")
    assert runs.can_continue(killed)
    small_store.client.delete_run(killed)
    assert not any(map(runs.can_continue, [killed, run_id, "0" * 32, None]))
