from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from barque import errors
from barque.daemon.containers.catalogue import Catalogue
from barque.daemon.containers.container import Container
from barque.daemon.containers.documents import Config, HostConfig
from barque.daemon.containers.record import Record
from barque.daemon.containers.state import Move, State, Status
from barque.daemon.database import Database


def container(container_id: str, name: str) -> Container:
    record = Record(
        id=container_id, name=name, created="2026-01-01T00:00:00Z", image="sha256:x", chain_id="",
        path="sh", args=[], config=Config(), host=HostConfig(),
    )  # fmt: skip
    return Container(record, State())


@pytest.fixture
def database(tmp_path: Path) -> Database:
    return Database.open(tmp_path / "daemon.db")


@pytest.fixture
def catalogue(database: Database) -> Catalogue:
    made = Catalogue(database)
    for container_id, name in (("abc1", "one"), ("abc2", "two"), ("b000", "abc")):
        made.take_name(name, container_id)
        made.insert(container(container_id, name))
    return made


def test_finding(catalogue: Catalogue) -> None:
    assert catalogue.find("abc1").name == "one"
    assert catalogue.find("/two").id == "abc2"
    assert catalogue.find("abc").id == "b000"  # a name wins over a prefix
    assert catalogue.find("b0").id == "b000"
    with pytest.raises(errors.InvalidArgument, match="multiple IDs found with provided prefix: ab"):
        catalogue.find("ab")
    for reference in ("", "x", "abc11", "b00x"):
        with pytest.raises(errors.NotFound, match=f"No such container: {reference}"):
            catalogue.find(reference)


def test_names(catalogue: Catalogue) -> None:
    with pytest.raises(errors.AlreadyExists, match='"/one" is already in use by container "abc1"'):
        catalogue.take_name("one", "zzz")
    with pytest.raises(errors.AlreadyExists):
        catalogue.rename(catalogue.find("two"), "one")
    catalogue.rename(catalogue.find("two"), "three")
    assert catalogue.find("three").id == "abc2"
    catalogue.take_name("two", "zzz")
    catalogue.rename(catalogue.find("three"), "three")
    assert catalogue.name_taken("three")


def test_a_restart_reads_what_was_written(catalogue: Catalogue, database: Database) -> None:
    one = catalogue.find("one")
    one.state.move(Move.START, one.id)
    one.state.pid = 7
    catalogue.save_state(one)
    again = Catalogue(database)
    again.load()
    assert len(again) == 3
    assert (again.find("one").state.status, again.find("one").state.pid) == (Status.RUNNING, 7)


def test_removal_in_two_steps(catalogue: Catalogue, database: Database) -> None:
    one = catalogue.find("one")
    one.state.move(Move.REMOVE, one.id)
    catalogue.hide(one)
    with pytest.raises(errors.NotFound):
        catalogue.find("one")
    catalogue.take_name("one", "new1")
    catalogue.insert(container("new1", "one"))
    again = Catalogue(database)
    again.load()
    assert again.find("abc1").state.status is Status.REMOVING
    catalogue.forget("abc1")
    catalogue.forget("abc1")
    assert len(database.query("SELECT id FROM containers")) == 3


def test_a_damaged_row_says_which(catalogue: Catalogue, database: Database) -> None:
    with database.transaction() as tx:
        tx.execute("UPDATE containers SET state = '{' WHERE id = 'abc1'")
    with pytest.raises(errors.DataLoss, match="record of container abc1"):
        Catalogue(database).load()


def test_an_insert_that_fails_shows_nothing(catalogue: Catalogue) -> None:
    with pytest.raises(sqlite3.IntegrityError):
        catalogue.insert(container("abc1", "other"))
    assert catalogue.find("abc1").name == "one"
