"""Fields of forms that recur: one value out of several, and a span of time."""

from collections.abc import Iterable, Mapping

from jinja2 import pass_context
from jinja2.runtime import Context
from markupsafe import Markup

MAX_NAMESPACES = 200  # beyond them a list is no help
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
def namespaces(context: Context, chosen: str | None, every: str) -> Markup:
    """Return the list of namespaces to choose one from, or where there are too many for that, a field to type it."""
    known: frozenset[str] = context["frame"].namespaces
    if len(known) >= MAX_NAMESPACES:
        field = '<label>namespace <input name="namespace" value="{}" placeholder="{}" maxlength="128"></label>'
        return Markup(field).format(chosen or "", every)
    return choice("namespace", "namespace", sorted(known | {*filter(None, [chosen])}), chosen, every)


@pass_context
def between(context: Context) -> Markup:
    """Return the two fields of a span of time, with what the address of the page has for them."""
    query: Mapping[str, str] = context["frame"].query
    field = Markup('<label>{0} <input name="{0}" placeholder="{1}" value="{2}"></label>')
    return Markup("").join(field.format(name, MOMENT, query.get(name, "")) for name in ("since", "until"))
