"""Fields of forms that recur: one value out of several, and a span of time."""

from collections.abc import Iterable, Mapping

from jinja2 import pass_context
from jinja2.runtime import Context
from markupsafe import Markup

MOMENT = "2026-01-31T12:00Z"


def choice(
    label: str, name: str, values: Iterable[str] | Mapping[str, str], chosen: str | None, every: str | None = None
) -> Markup:
    """Return a list to choose one value from, a mapping with its labels; `every` is the word for no value at all."""
    words = dict(values) if isinstance(values, Mapping) else {value: value for value in values}
    options = ({} if every is None else {"": every}) | words
    drawn = Markup("").join(
        Markup('<option value="{}"{}>{}</option>').format(
            value, Markup(" selected") if value == (chosen or "") else "", word
        )
        for value, word in options.items()
    )
    return Markup('<label>{} <select name="{}">{}</select></label>').format(label, name, drawn)


@pass_context
def between(context: Context) -> Markup:
    """Return the two fields of a span of time, with what the address of the page has for them."""
    query: Mapping[str, str] = context["frame"].query
    field = Markup('<label>{0} <input name="{0}" placeholder="{1}" value="{2}"></label>')
    return Markup("").join(field.format(name, MOMENT, query.get(name, "")) for name in ("since", "until"))
