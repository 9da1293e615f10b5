"""The select list of a struct, and the struct of a row: fields and columns match by name."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Generic, TypeVar

import msgspec

from aitp_cp.db.arrays import stored_array
from aitp_cp.db.pool import Record

V = TypeVar("V", bound=msgspec.Struct)
NO_LISTS: Mapping[str, type[msgspec.Struct]] = MappingProxyType({})


class View(Generic[V]):
    """Reads rows into `struct`.

    `columns` gives the expression of each field whose column has another name; `arrays` are fields kept as `jsonb`, and
    `lists` are fields whose expression is null or the JSON of a list of structs.
    Further columns may follow `sql` in a statement. By position after the names are resolved here once: a lookup by
    name in each row would cost a page of 100 rows 40 µs.
    """

    def __init__(
        self,
        struct: type[V],
        columns: dict[str, str],
        arrays: Sequence[str] = (),
        lists: Mapping[str, type[msgspec.Struct]] = NO_LISTS,
    ) -> None:
        fields = struct.__struct_fields__
        if unknown := ({*columns} | {*arrays} | {*lists}) - {*fields}:
            raise TypeError(f"{struct.__name__} has no {sorted(unknown)}")
        self.sql = ", ".join(columns.get(field, field) for field in fields)
        self._struct = struct
        self._count = len(fields)
        self._arrays = [fields.index(name) for name in arrays]
        self._lists = [
            (fields.index(name), msgspec.json.Decoder(list[kind]))  # type: ignore[valid-type]
            for name, kind in lists.items()
        ]

    def read(self, row: Record) -> V:
        values = list(row[: self._count])
        for index in self._arrays:
            values[index] = stored_array(values[index])
        for index, decoder in self._lists:
            values[index] = [] if values[index] is None else decoder.decode(values[index])
        return self._struct(*values)
