"""Names: Segment's rules exactly; beyond them nothing lost, too long or dangerous."""

from __future__ import annotations

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st
from target_segment_warehouse.naming import (
    META_COLUMNS,
    ColumnNamer,
    Namer,
    Naming,
    Owner,
    TableNamer,
    column_name,
    quote,
    schema_name,
    snake_case,
    table_name,
)

# Upstream's own vectors (snake_test.go) and those of a byte-for-byte port; rule W4.
SNAKE_VECTORS = {
    "sampleText": "sample_text",
    "sample text": "sample_text",
    "samPLE text": "sam_ple_text",
    "sample___text": "sample_text",
    "sample_text": "sample_text",
    "sample2Text": "sample2_text",
    "SAMPLE 2 TEXT": "sample_2_text",
    "FOO:BAR$BAZ": "foo_bar_baz",
    "$something%": "something",
    "CStringRef": "cstring_ref",
    "___$$Base64Encode": "base64_encode",
    "THE5r": "the5r",
    "5TEst": "5test",
    "_5TEst": "5test",
    "edf_6N": "edf_6n",
    "f_pX9": "f_p_x9",
    "p_z9Rg": "p_z9_rg",
    "2FA Enabled": "2fa_enabled",
    "Enabled 2FA": "enabled_2fa",
    "lk0B@bFmjrLQ_Z6YL": "lk0_b_b_fmjr_lq_z6yl",
    "@49L0S145_¬fwHƒ0TSLNVp": "49l0s145_fw_h_0tslnvp",
    "•¶§ƒ˚foo˙∆˚¬": "foo",
    "smtp-id": "smtp_id",
    "userID": "user_id",
    "user_ID": "user_id",
    "_id": "id",
    "__id": "id",
    "ID": "id",
    "HTMLBody": "htmlbody",
    "fooV2bar": "foo_v2bar",
    "a1B2": "a1_b2",
    "iso639Code": "iso639_code",
    "V2Foo": "v2foo",
    "naïve": "na_ve",
    "é": "",
    "-": "",
    "": "",
}


@pytest.mark.parametrize(("name", "expected"), SNAKE_VECTORS.items())
def test_snake_case_is_that_of_go_snakecase(name: str, expected: str) -> None:
    assert snake_case(name) == expected


def go_snakecase(text: str) -> str:
    """The steps of rule W4 byte by byte, as the Go code takes them."""
    s = text.encode("utf-8", "surrogatepass")
    lower, upper, digit = (
        frozenset(b"abcdefghijklmnopqrstuvwxyz"),
        frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ"),
        frozenset(b"0123456789"),
    )
    index = 0
    has_lower = has_underscore = lower_since = False
    while index < len(s):
        byte = s[index]
        if byte in lower:
            has_lower = True
            lower_since = lower_since or has_underscore
        elif (
            byte == 0x5F
            and 0 < index < len(s) - 1
            and (s[index + 1] in lower or s[index + 1] in digit)
        ):
            has_underscore, lower_since = True, False
        elif byte not in digit:
            break
        index += 1
    if index == len(s):
        return text
    out = bytearray(s[:index])

    def copy_word() -> None:
        nonlocal index
        while index < len(s) and (s[index] in upper or s[index] in digit):
            out.append(s[index] | 0x20 if s[index] in upper else s[index])
            index += 1
        while index < len(s) and (s[index] in lower or s[index] in digit):
            out.append(s[index])
            index += 1

    if s[index] in upper and (not has_lower or (has_underscore and not lower_since)):
        copy_word()
    while index < len(s):
        if s[index] not in lower | upper | digit:
            index += 1
            continue
        if out:
            out.append(0x5F)
        copy_word()
    return out.decode()


@given(st.one_of(st.text(), st.text(alphabet="abXY_09 -é", max_size=12)))
def test_snake_case_equals_the_byte_wise_steps(name: str) -> None:
    assert snake_case(name) == go_snakecase(name)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (("url_offset", "index"), "url_offset_index"),  # W5
        (("address", "street"), "address_street"),
        (("context", "field", "nestedA", "nestedB"), "context_field_nested_a_nested_b"),
        (("custom_fields", "Random Index"), "custom_fields_random_index"),
        (("3doctors",), "_3doctors"),  # W26
        (("a", "3doctors"), "a_3doctors"),
        (("id",), "_id"),  # W15: after snake case
        (("_id",), "_id"),
        (("ID",), "_id"),
        (("Received At",), "_received_at"),
        (("uuid_ts",), "_uuid_ts"),
        (("uuid",), "uuid"),
        (("timestamp",), "timestamp"),  # W17, W18: as SendGrid's tables have it
        (("event",), "event"),
        (("xmin",), "_xmin"),  # Postgres refuses it
        (("select",), "select"),  # quoted, not renamed
        (("_sdc_extracted_at",), "_sdc_extracted_at"),
        (("_sdc_other",), "sdc_other"),
        (("氏名",), "u6c0f_u540d"),
        (("é",), "u00e9"),
        (("-",), "u002d"),
        (("😀",), "u1f600"),
        (("\ud800",), "ud800"),
        (("",), "empty"),
        (("a", "", "b"), "a_empty_b"),
        (('"; DROP TABLE lists; --',), "drop_table_lists"),
        (("a\0b\n\x1bc",), "a_b_c"),
    ],
)
def test_column_names(path: tuple[str, ...], expected: str) -> None:
    assert column_name(path) == expected


@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        ("open", "_open"),  # W25, on every engine
        ("Open", "_open"),
        ("_open", "_open"),
        ("spam_report", "spam_report"),
        ("activity", "_activity"),  # ours is the union
        ("sync_reports", "_sync_reports"),
        ("_discards", "discards"),
        ("public-users", "public_users"),
        ("TestCamelcase", "test_camelcase"),
        ("test:SpecialChars!in?attributes", "test_special_chars_in_attributes"),
        ("3com", "_3com"),
        ("表", "u8868"),
    ],
)
def test_table_names(stream: str, expected: str) -> None:
    assert table_name(stream) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("SendGrid", "send_grid"),
        ("sendgrid", "sendgrid"),
        ("sendgrid_prod", "sendgrid_prod"),
        ("1st", "_1st"),
        ("pg_mine", "_pg_mine"),
    ],
)
def test_schema_names(name: str, expected: str) -> None:
    assert schema_name(name) == expected
    assert len(schema_name(name * 100)) == 63


def test_two_properties_with_one_name_both_get_a_column() -> None:
    namer = ColumnNamer()
    columns = namer.columns([("firstName",), ("first_name",), ("first", "name")])
    # W6: Segment would have kept the value of `first_name`, the last in byte order.
    assert columns[("first_name",)] == "first_name"
    assert len(set(columns.values())) == 3
    assert all(name.startswith("first_name_") for name in set(columns.values()) - {"first_name"})
    assert columns == ColumnNamer().columns([("first", "name"), ("first_name",), ("firstName",)])
    assert {naming.wanted for naming in namer.new} == {"first_name"}


def test_a_nested_property_gives_way_to_the_later_key_as_in_segment() -> None:
    columns = ColumnNamer().columns([("first", "name"), ("firstName",)])
    assert columns[("firstName",)] == "first_name"


def test_a_column_keeps_its_property_in_the_next_run() -> None:
    first = ColumnNamer()
    assert first.column(("firstName",)) == "first_name"
    stored = {
        naming.name: Owner.from_text(naming.owner.to_text(), naming.owner.variant)
        for naming in first.new
    }
    second = ColumnNamer(existing=dict.fromkeys(META_COLUMNS) | stored)
    columns = second.columns([("first_name",), ("firstName",)])
    assert columns[("firstName",)] == "first_name"
    assert columns[("first_name",)] == "first_name_" + columns[("first_name",)][-8:]
    assert [naming.owner for naming in second.new] == [Owner(("first_name",))]


def test_a_column_that_segment_made_goes_to_the_first_property_of_that_name() -> None:
    namer = ColumnNamer(
        existing=dict.fromkeys([*META_COLUMNS, "url_offset_index", "Email"]), hoist={"custom_args"}
    )
    assert namer.column(("url_offset", "index")) == "url_offset_index"
    assert namer.column(("url_offset_index",)) != "url_offset_index"
    assert namer.column(("email",)) == "Email"  # as it is written there


def test_a_property_never_takes_a_meta_column() -> None:
    namer = ColumnNamer(
        existing=dict.fromkeys(META_COLUMNS), fixed={("received_at",): "received_at"}
    )
    columns = namer.columns([("id",), ("_id",), ("received_at",), ("receivedAt",), ("uuid-ts",)])
    assert columns[("received_at",)] == "received_at"
    assert columns[("receivedAt",)] == "_received_at"
    assert columns[("uuid-ts",)] == "_uuid_ts"
    assert columns[("id",)] == "_id"  # `i` sorts after `_`
    assert columns[("_id",)].startswith("_id_")


def test_hoisted_properties_lose_their_prefix_unless_the_name_is_taken() -> None:
    namer = ColumnNamer(hoist={"custom_args"})
    columns = namer.columns(
        [
            ("custom_args", "orderRef"),
            ("custom_args", "reason"),
            ("reason",),
            ("custom_args", "deep", "er"),
            ("custom_args", "id"),
            ("custom_args",),
        ]
    )
    assert columns == {
        ("reason",): "reason",
        ("custom_args",): "custom_args",
        ("custom_args", "orderRef"): "order_ref",
        ("custom_args", "reason"): "custom_args_reason",
        ("custom_args", "deep", "er"): "deep_er",
        ("custom_args", "id"): "_id",
    }
    assert namer.columns([("custom_args_reason",)])[("custom_args_reason",)].startswith(
        "custom_args_reason_"
    )


def test_a_hoisted_name_stays_when_the_property_itself_comes_later() -> None:
    namer = ColumnNamer(hoist={"custom_args"})
    assert namer.column(("custom_args", "plan")) == "plan"
    assert namer.column(("plan",)).startswith("plan_")
    assert namer.column(("custom_args", "plan")) == "plan"


def test_variants_are_columns_of_their_own() -> None:
    namer = ColumnNamer(existing={"amount": None, "amount_text": None})
    assert namer.column(("amount",)) == "amount"
    sibling = namer.variant(("amount",), "text")
    assert sibling.startswith("amount_text_")  # a stranger's column of that name is not claimed
    assert namer.variant(("amount",), "text") == sibling
    assert ColumnNamer().variant(("price",), "text") == "price_text"


def test_long_names_are_cut_to_the_limit_and_stay_apart() -> None:
    namer = ColumnNamer(max_bytes=63)
    one, two = ("x" * 63 + "_one",), ("x" * 63 + "_two",)
    assert len({namer.column(one), namer.column(two), namer.column(("x" * 10_000,))}) == 3
    assert {len(naming.name) for naming in namer.new} == {63}
    assert ColumnNamer(max_bytes=63).column(two) == namer.column(two)
    assert namer.column(("y" * 63,)) == "y" * 63
    assert len(ColumnNamer(max_bytes=63).column(("日" * 40,))) == 63


def test_a_crafted_property_cannot_take_a_hashed_name_away() -> None:
    victim = ColumnNamer()
    victim.column(("a_b",))
    hashed = victim.column(("a-b",))
    namer = ColumnNamer()
    assert namer.column((hashed,)) == hashed
    assert namer.column(("a_b",)) == "a_b"
    assert namer.column(("a-b",)).startswith(hashed)
    assert namer.column(("a-b",)) != hashed


def test_tables_stay_apart_and_avoid_what_is_not_a_table() -> None:
    namer = TableNamer(existing={"click": None}, unusable=["users_pkey", "spamreport"])
    tables = namer.tables(["Users", "users", "users-pkey", "open", "_open", "click", "spamreport"])
    assert tables["click"] == "click"
    assert tables["users"] == "users"
    assert tables["Users"].startswith("users_")
    assert tables["open"] == "_open"
    assert tables["_open"].startswith("_open_")
    assert tables["users-pkey"].startswith("users_pkey_")
    assert tables["spamreport"].startswith("spamreport_")
    assert len(set(tables.values())) == len(tables)
    assert Naming("_open", Owner(("open",)), "_open") in namer.new


def test_quote_makes_any_identifier_harmless() -> None:
    hostile = 'a"; DROP TABLE b; --'
    with duckdb.connect() as connection:
        connection.execute(f"CREATE TABLE t ({quote(hostile)} INTEGER)")
        assert connection.table("t").columns == [hostile]
    with pytest.raises(ValueError, match="NUL"):
        quote("a\0b")


KEYS = st.one_of(
    st.text(max_size=20),
    st.sampled_from(["id", "ID", "_id", "first_name", "firstName", "first", "name", "c", "é", ""]),
    st.text(alphabet="ab_B", min_size=1, max_size=90),
)
PATHS = st.lists(KEYS, min_size=1, max_size=4).map(tuple)


@given(st.lists(PATHS, unique=True, max_size=30), st.integers(12, 63), st.randoms())
def test_columns_are_unique_valid_and_independent_of_order(paths, max_bytes, random) -> None:
    namer = ColumnNamer(max_bytes, dict.fromkeys(META_COLUMNS), hoist={"c"})
    columns = namer.columns(paths)
    assert set(columns) == set(paths)
    assert len(set(columns.values())) == len(paths)
    assert set(columns.values()).isdisjoint(META_COLUMNS)
    for name in columns.values():
        assert name.isascii()
        assert name.replace("_", "").isalnum()
        assert name == name.lower()
        assert 0 < len(name) <= max_bytes
        assert not name[0].isdigit()
        assert not name.startswith("__")
    random.shuffle(paths)
    again = ColumnNamer(max_bytes, dict.fromkeys(META_COLUMNS), hoist={"c"})
    assert again.columns(paths) == columns


@given(st.lists(st.lists(PATHS, max_size=8), max_size=5))
def test_a_given_name_stays_over_batches_and_runs(batches) -> None:
    remembered: dict[tuple[str, ...], str] = {}
    existing: dict[str, Owner | None] = dict.fromkeys(META_COLUMNS)
    for batch in batches:
        namer = ColumnNamer(63, existing, hoist={"c"})  # a new run: it knows what was stored
        for path, name in namer.columns(batch).items():
            assert remembered.setdefault(path, name) == name
        for naming in namer.new:
            text, variant = naming.owner.to_text(), naming.owner.variant
            existing[naming.name] = Owner.from_text(text, variant)
    assert len(set(remembered.values())) == len(remembered)


@given(st.text(min_size=1), st.integers(10, 63))
def test_an_owner_survives_storage(name: str, max_bytes: int) -> None:
    owner = Owner((name, "x"), "text")
    assert Owner.from_text(owner.to_text(), "text") == owner
    assert owner.to_text().isascii()
    assert len(Namer(max_bytes).give(owner, ["wish" * 30])) == max_bytes
