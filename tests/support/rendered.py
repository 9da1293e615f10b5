"""The files that are generated from the code: `make docs` writes them, a test compares them."""

from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from aitp_cp.settings import Settings
from tests.support import command_table, layout, scales, tables

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"


def rendered() -> dict[Path, str]:
    return {
        ROOT / ".env.example": _env_example(),
        DOCS / "settings.md": _settings_page(),
        DOCS / "architecture.md": _with_table("architecture.md", "layout", layout.picture()),
        DOCS / "api.md": _api_page(),
        DOCS / "cli.md": _with_table("cli.md", "commands", command_table.commands()),
        DOCS / "events.md": _with_table("events.md", "types", tables.event_types()),
        DOCS / "errors.md": _with_table("errors.md", "codes", tables.error_codes()),
        DOCS / "capacity.md": _capacity_page(),
        DOCS / "metrics.md": _with_table("metrics.md", "metrics", tables.metrics()),
    }


def _api_page() -> str:
    page = _with_table("api.md", "endpoints", tables.endpoints())
    return tables.with_table(page, "parameters", tables.parameters())


def _capacity_page() -> str:
    page = _with_table("capacity.md", "scales", scales.table())
    return tables.with_table(page, "costs", scales.costs())


def _with_table(page: str, name: str, table: str) -> str:
    return tables.with_table((DOCS / page).read_text(), name, table)


def _env_example() -> str:
    lines = [
        "# Every setting with its default.",
        "# Each NAME may also be given as NAME_FILE: a path whose trimmed content is the value.",
    ]
    for name, field in Settings.model_fields.items():
        lines += ["", f"# {field.description}", f"#{name.upper()}={_default(field)}"]
    return "\n".join(lines) + "\n"


def _settings_page() -> str:
    lines = [
        "# Settings",
        "",
        "Every setting is an environment variable. Each `NAME` may also be given as `NAME_FILE`: a path whose trimmed",
        "content is the value. An empty value counts as unset. Invalid values stop the start with one message that",
        "names each of them; `aitp-cp check` explains them.",
        "",
        "| variable | type | default | meaning |",
        "|---|---|---|---|",
    ]
    for name, field in Settings.model_fields.items():
        default = _default(field)
        shown = f"`{default}`" if default else "—"
        lines.append(f"| `{name.upper()}` | {_kind(field.annotation)} | {shown} | {field.description} |")
    return "\n".join(lines) + "\n"


def _default(field: FieldInfo) -> str:
    if field.default in (None, (), PydanticUndefined):
        return ""
    return str(field.default).lower() if isinstance(field.default, bool) else str(field.default)


def _kind(annotation: Any) -> str:
    bare = getattr(annotation, "__origin__", annotation) if hasattr(annotation, "__metadata__") else annotation
    choices = [choice for choice in get_args(bare) if choice is not type(None)]
    if get_origin(bare) is tuple:
        return "list"
    if get_origin(bare) is Literal:
        return " or ".join(f"`{choice}`" for choice in choices)
    if choices:
        return _kind(choices[0])
    return {"int": "integer", "bool": "`true` or `false`", "SecretStr": "secret text"}.get(bare.__name__, "text")


if __name__ == "__main__":
    for path, text in rendered().items():
        path.write_text(text)
