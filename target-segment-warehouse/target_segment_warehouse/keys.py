"""Row ids: the key of a record as one text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from singer_sdk.exceptions import MissingKeyPropertiesError

from target_segment_warehouse.cells import CELLS, Cell
from target_segment_warehouse.naming import Path
from target_segment_warehouse.sqltext import literal, pointer
from target_segment_warehouse.staging import Staged
from target_segment_warehouse.streams import Stream
from target_segment_warehouse.workbench import Workbench

MAX_ID_BYTES = 1024
"""The longest ``id``, as in Segment's tables; a longer key is in its own column (``_id``) too."""


def require_keys(
    workbench: Workbench, stream: Stream, cells: Mapping[Path, Cell], staged: Staged
) -> None:
    """Make sure that every record has a value for each key property.

    Raises:
        MissingKeyPropertiesError: With the place of the first that has not.
    """
    for key in stream.key:
        line = workbench.value(
            f"SELECT min(line) FROM {CELLS} WHERE {cells[key,].text} IS NULL"  # noqa: S608
        )
        if line is not None:
            kind = workbench.value(
                f"SELECT json_type(record, {literal(pointer((key,)))}) "  # noqa: S608
                f"FROM {staged.relation} WHERE line = {line}"
            )
            has, advice = "no value", ""
            if kind == "OBJECT":
                has = "an object, which is no key,"
                advice = " Have the setting 'stream_maps' make a key of its members."
            raise MissingKeyPropertiesError(
                f"The record of stream '{stream.name}' on {staged.place.of(line)} has {has} for "
                f"the key property '{key}'. Nothing of this flush was loaded.{advice}"
            )


def id_of(key: Sequence[str]) -> str:
    """SQL for the row's id: the key's text; several joined so that no two keys look alike.

    One that an index cannot hold (2704 bytes on Postgres) ends in a hash of it.

    Args:
        key: SQL for the text of each key property.
    """
    if not key:
        return "CAST(uuidv7() AS VARCHAR)"
    texts = list(key)
    if len(texts) > 1:
        texts = [rf"replace(replace({text}, '\', '\\'), '_', '\_')" for text in texts]
    id_ = " || '_' || ".join(texts)
    return (
        f"CASE WHEN strlen({id_}) > {MAX_ID_BYTES} "
        f"THEN left({id_}, {MAX_ID_BYTES // 8}) || '_' || sha256({id_}) ELSE {id_} END"
    )
