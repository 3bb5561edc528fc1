"""Databases that the service cannot work with: one line that names the setting, and an exit code."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from app.stores.postgresql.connection import Address
from app.stores.postgresql.schema import prepare
from app.stores.postgresql.text import load_sql
from tests.cli.program import Ended, call
from tests.postgresql_server import shared_server
from tests.service_process import free_port

pytestmark = pytest.mark.servers

SECRET = "hunter2"  # noqa: S105  of a server of this test
"""The password of every role here; no message repeats it."""


def started(url: str, folder: Path) -> Ended:
    """How `serve` on this database ends."""
    return call(
        *("serve", "--port", "0", "--data-dir", folder / "data"),
        cwd=folder,
        ORCHESTRATOR_LOG__LEVEL="error",
        ORCHESTRATOR_STORE__URL=url,
    )


def role(*, password: str | None = None) -> str:
    """A new role that may connect; with a `password` it has to give it."""
    server, name = shared_server(), f"role_{uuid.uuid4().hex[:8]}"
    server.execute(f"CREATE ROLE {name} LOGIN" + (f" PASSWORD '{password}'" if password else ""))
    if password:
        rules = server.folder / "data" / "pg_hba.conf"
        text = rules.read_text(encoding="utf-8")
        rules.write_text(f"host all {name} 127.0.0.1/32 scram-sha-256\n{text}", encoding="utf-8")
        server.execute("SELECT pg_reload_conf()")
    return name


def url(user: str, *, database: str = "postgres", password: str = SECRET, more: str = "") -> str:
    """What a service of that role connects to."""
    return f"postgresql://{user}:{password}@127.0.0.1:{shared_server().port}/{database}{more}"


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("mysql://u:hunter2@h/d", "store.url: must look like postgresql://user:password@host:5432/database"),
        ("postgresql://u:hunter2@h", "store.url: must look like postgresql://"),
        ("postgresql://u:hunter2@h:none/d", "store.url"),
        ("postgresql://u:hunter2/x@h/d", "of a password written as %2F"),
        ("postgresql://u:hunter2#x@h/d", "of a password written as %2F"),
        ("postgresql://u:x?hunter2@h/d", "of a password written as %2F"),
        ("h:5432/d", "store.url: must look like postgresql://"),
    ],
)
def test_a_url_that_is_none_ends_with_2(written: str, said: str, tmp_path: Path) -> None:
    ended = started(written, tmp_path)
    (line,) = ended.error_lines
    assert (ended.code, SECRET in line) == (2, False)
    assert said in line


def unreachable() -> str:
    return f"postgresql://u:{SECRET}@127.0.0.1:{free_port()}/d"


def unknown_host() -> str:
    return f"postgresql://u:{SECRET}@nowhere.invalid/d"


def no_such_database() -> str:
    return url("postgres", database="nowhere")


def no_such_role() -> str:
    return url("nobody_knows")


def wrong_password() -> str:
    return url(role(password=f"not {SECRET}"))


def no_right_to_connect() -> str:
    database = shared_server().create_database().rpartition("/")[2]
    shared_server().execute(f'REVOKE CONNECT ON DATABASE "{database}" FROM PUBLIC')
    return url(role(), database=database)


def no_right_to_make_tables() -> str:
    address = shared_server().create_database()
    shared_server().execute("REVOKE ALL ON SCHEMA public FROM PUBLIC", url=address)
    return url(role(), database=address.rpartition("/")[2])


def tables_of_another_role() -> str:
    address = shared_server().create_database()
    prepare(Address(url=address), load_sql())
    return url(role(), database=address.rpartition("/")[2])


def tls_where_there_is_none() -> str:
    return url("postgres", more="?sslmode=require")


def an_option_that_is_none() -> str:
    return url("postgres", more="?sslmode=perhaps")


def a_file_that_is_not_there() -> str:
    return url("postgres", more="?sslmode=verify-full&sslrootcert=/missing.pem")


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (unreachable, "the database cannot be reached: see whether the one in store.url runs"),
        (unknown_host, "the database cannot be reached: see whether the one in store.url runs"),
        (no_such_database, "the database that store.url names does not exist: create it"),
        (no_such_role, "refused the credentials of store.url: check its user and password"),
        (wrong_password, "refused the credentials of store.url: check its user and password"),
        (no_right_to_connect, "the user of store.url may not do this: make it the owner of the database"),
        (no_right_to_make_tables, "has no schema to make tables in: make it the owner of the database"),
        (tables_of_another_role, "the user of store.url may not do this: make it the owner"),
        (tls_where_there_is_none, "the database takes no TLS connections: turn TLS on there, or see sslmode"),
        (an_option_that_is_none, "sslmode"),
        (a_file_that_is_not_there, "a file that store.url names is not there: see sslrootcert"),
    ],
    ids=lambda it: it.__name__ if callable(it) else "",
)
def test_a_database_that_cannot_be_used_ends_with_3(
    made: Callable[[], str], said: str, tmp_path: Path
) -> None:
    ended = started(made(), tmp_path)
    assert ended.code == 3, ended.err
    (line,) = ended.error_lines
    assert "store.url" in line
    assert said in line
    assert SECRET not in line
