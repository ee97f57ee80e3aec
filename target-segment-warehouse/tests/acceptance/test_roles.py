"""What a user of Postgres may not do: the message says who has to do what about it."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from urllib.parse import quote, urlsplit, urlunsplit

import pytest

from .harness import SCHEMA, Warehouse
from .messages import events, record, schema

pytestmark = pytest.mark.parametrize("engine", ["postgres"], indirect=True)

LINES = [schema("o"), record("o", id="1")]


@pytest.fixture
def role(warehouse: Warehouse) -> Iterator[str]:
    """A role that may log in, and nothing else."""
    name = f"role_{uuid.uuid4().hex[:8]}"
    warehouse.execute(f"CREATE ROLE {name} LOGIN")
    yield name
    warehouse.execute(f"DROP OWNED BY {name} CASCADE")
    warehouse.execute(f"DROP ROLE {name}")


def as_role(warehouse: Warehouse, role: str) -> str:
    """The warehouse's URL, for another user."""
    parts = urlsplit(warehouse.url)
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{role}@{host}"))


@pytest.mark.parametrize("is_there", [False, True])
def test_a_read_only_session(warehouse: Warehouse, is_there: bool) -> None:
    if is_there:
        warehouse.load(*LINES)
    mark = "&" if "?" in warehouse.url else "?"
    url = f"{warehouse.url}{mark}options={quote('-c default_transaction_read_only=on')}"
    result = warehouse.run(schema("o"), record("o", id="2", fresh=1), warehouse_url=url)
    result.failed("read-only", "replica", "primary", "warehouse_url")
    assert "GRANT" not in result.stderr


def test_no_right_to_make_the_schema(warehouse: Warehouse, role: str) -> None:
    result = warehouse.run(*LINES, warehouse_url=as_role(warehouse, role))
    result.failed("permission denied", SCHEMA, "GRANT CREATE ON DATABASE", f'TO "{role}"')


def test_a_table_of_somebody_else_s(warehouse: Warehouse, role: str) -> None:
    warehouse.load(*LINES)
    warehouse.execute(f"ALTER SCHEMA {SCHEMA} OWNER TO {role}")
    warehouse.execute(f"GRANT ALL ON ALL TABLES IN SCHEMA {SCHEMA} TO {role}")
    ((owner,),) = warehouse.query("SELECT current_user::text")
    result = warehouse.run(
        schema("o"), record("o", id="2", fresh=1), warehouse_url=as_role(warehouse, role)
    )
    result.failed("must be owner of table o", f"belongs to {owner}", f'OWNER TO "{role}"')


def test_rights_on_activity_stay_when_it_is_made_again(warehouse: Warehouse, role: str) -> None:
    a, b = [events("a"), record("a", id="1", n=1)], [events("b"), record("b", id="2", n=2)]
    warehouse.load(*a, *b)
    warehouse.execute(f"GRANT USAGE ON SCHEMA {SCHEMA} TO {role}")
    warehouse.execute(f"GRANT SELECT ON {SCHEMA}.activity TO {role} WITH GRANT OPTION")
    warehouse.execute(f"GRANT SELECT ON {SCHEMA}.activity TO PUBLIC")
    before = warehouse.query("SELECT relacl::text FROM pg_class WHERE relname = 'activity'")
    changes = [
        [events("c"), record("c", id="8", n=True)],  # another type in the union: made anew
        [record("a", id="3", n="text")],  # a wider column: the view is dropped
        [record("b", id="4", n=0.5), record("b", id="5", m=True), record("a", id="6", m="x")],
        [record("a", id="7", fresh=1)],  # the view is replaced
    ]
    for lines in changes:
        warehouse.load(events("a"), events("b"), *lines)
        acl = warehouse.query("SELECT relacl::text FROM pg_class WHERE relname = 'activity'")
        assert acl == before
    warehouse.execute(f"ALTER TABLE {SCHEMA}.a DROP COLUMN fresh CASCADE")  # the view goes, too
    warehouse.load(*a)
    warehouse.assert_activity_is_the_union(["a", "b", "c"])
