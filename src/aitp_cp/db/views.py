"""The select list of a struct, and the struct of a row: fields and columns match by name."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, TypeVar, get_args, get_origin

import msgspec

from aitp_cp.clock import iso_or_none
from aitp_cp.db.pages import LONG_PAGE_BYTES, within_bytes
from aitp_cp.db.pool import Record

V = TypeVar("V", bound=msgspec.Struct)


class View(Generic[V]):
    """Reads rows into `struct`.

    `columns` gives the expression of each field whose column has another name. `arrays` are fields kept as `jsonb`: an
    older control plane stored null and other values there, which are shown as `[]`. JSON is held as it is, and a
    time becomes text where the member `…_at` is text. `convert` makes other members of their columns. Further columns
    may follow `sql` in a statement. By position after the names are resolved here once: a lookup by name in each row
    would cost a page of 100 rows 40 µs.
    """

    def __init__(
        self,
        struct: type[V],
        columns: Mapping[str, str] = {},
        arrays: Sequence[str] = (),
        convert: Mapping[str, Callable[[Any], Any]] = {},
    ) -> None:
        fields = struct.__struct_fields__
        if unknown := ({*columns, *arrays, *convert}) - {*fields}:
            raise TypeError(f"{struct.__name__} has no {sorted(unknown)}")
        lists = {name: f"CASE WHEN jsonb_typeof({name}) = 'array' THEN {name} ELSE '[]' END" for name in arrays}
        expressions = [columns.get(field) or lists.get(field, field) for field in fields]
        self.sql = ", ".join(expressions)
        named = zip(expressions, struct.__struct_encode_fields__, strict=True)
        self._members = ", ".join(f'{expression} AS "{name}"' for expression, name in named)
        self._struct = struct
        self._decoder = msgspec.json.Decoder(struct)
        self._count = len(fields)
        kinds = {field.name: field.type for field in msgspec.structs.fields(struct)}
        converters: dict[str, Callable[[Any], Any]] = {}
        for name, kind in kinds.items():
            if kind is msgspec.Raw or get_origin(kind) is list:
                converters[name] = msgspec.Raw
            elif name.endswith("_at") and str in (kind, *get_args(kind)) and columns.get(name, name).isidentifier():
                converters[name] = iso_or_none
        self._converters = [(fields.index(name), made) for name, made in {**converters, **convert}.items()]

    def read(self, row: Record) -> V:
        values = list(row[: self._count])
        for index, convert in self._converters:
            values[index] = convert(values[index])
        return self._struct(*values)

    def find(self, row: Record | None) -> V | None:
        """Read a row that may be missing."""
        return None if row is None else self.read(row)

    def page(self, rows: str, order: str) -> str:
        """Return a statement that makes JSON of the rows of a select, and ends within `LONG_PAGE_BYTES`.

        Made there, a row costs the event loop half of what it costs as a struct, and its size is exact. Expressions of
        this view may name the table `page`.
        """
        keys = [key.removesuffix(" DESC") for key in order.split(", ")]
        # Without OFFSET the JSON would be made twice, for its size and for the response.
        made = f"""
        SELECT row_to_json(shown)::text AS json, {", ".join(f"page.{key}" for key in keys)}
        FROM ({rows}) AS page CROSS JOIN LATERAL (SELECT {self._members}) AS shown
        ORDER BY {", ".join(f"page.{key}" for key in order.split(", "))} OFFSET 0
        """  # noqa: S608 - the parts are constants of a store
        columns = ", ".join(["json", *keys])
        return within_bytes(made, columns=columns, size="octet_length(json)", order=order, most=LONG_PAGE_BYTES)

    def raw(self, rows: Sequence[Record]) -> list[msgspec.Raw]:
        """Return the JSON of the rows of a `page`."""
        return [msgspec.Raw(row["json"]) for row in rows]

    def decode(self, rows: Sequence[msgspec.Raw]) -> list[V]:
        return [self._decoder.decode(row) for row in rows]


class Json(Generic[V]):
    """A struct with rows that the database has written: `text` for a response, `read` for those who look at them."""

    def __init__(self, struct: type[V], **members: Any) -> None:
        self.text = msgspec.json.encode(struct(**members))
        self._struct = struct

    def read(self) -> V:
        return msgspec.json.decode(self.text, type=self._struct)
