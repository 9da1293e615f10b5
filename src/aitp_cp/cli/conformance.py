"""aitp-cp conformance: the contract as checks against any deployment."""

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from aitp_cp.cli.conformance_options import ConformanceOptions
from aitp_cp.cli.console import err, out, stop
from aitp_cp.cli.remote import exits
from aitp_cp.conformance.catalogue import chosen
from aitp_cp.conformance.model import SECTIONS, Check, KeyRefused, Options, Report, Result, Unreachable
from aitp_cp.conformance.runner import Watcher, run

STYLES = {"passed": "green", "failed": "bold red", "skipped": "yellow"}
KEY_FILE = "AITP_CP_API_KEY_FILE"


def conformance(asked: ConformanceOptions) -> None:
    """Run the checks, print the report, and leave with 1 when one failed."""
    checks = chosen(_sections(asked.section or ()))
    if asked.show_list:
        _list(checks, as_json=asked.as_json)
        return
    report = _run_or_stop(_options(asked), checks)
    if asked.as_json:
        _print_json(report)
    else:
        _show(report)
    if report.count("failed"):
        raise typer.Exit(exits.REFUSED)


def _sections(given: Sequence[str]) -> frozenset[str]:
    unknown = [section for section in given if section not in SECTIONS]
    if unknown:
        stop(f"no checks of section {', '.join(unknown)}; there are {', '.join(SECTIONS)}", exits.USAGE)
    return frozenset(given)


def _options(asked: ConformanceOptions) -> Options:
    if not _is_base(asked.url):
        stop("name the deployment with --url or AITP_CP_URL, as in --url https://cp.example", exits.USAGE)
    assert asked.url is not None
    return Options(
        url=asked.url,
        api_key=asked.api_key or _key_from_file(),
        environment=asked.environment,
        origin=asked.origin,
        webhook_host=asked.webhook_host,
        receiver_host=asked.receiver_host,
        patience_secs=asked.patience,
        revoke=asked.revoke,
    )


def _is_base(url: str | None) -> bool:
    try:
        parts = urlsplit(url or "")
        _ = parts.port
    except ValueError:
        return False
    return parts.scheme in {"http", "https"} and bool(parts.hostname) and not parts.query and "@" not in parts.netloc


def _key_from_file() -> str | None:
    path = os.environ.get(KEY_FILE)
    if not path:
        return None
    try:
        return Path(path).read_text(encoding="utf-8").strip() or None
    except (OSError, ValueError):
        stop(f"{KEY_FILE} names a file that cannot be read", exits.USAGE)


def _run_or_stop(options: Options, checks: Sequence[Check]) -> Report:
    columns = TextColumn("[progress.description]{task.description}", markup=False), BarColumn(), MofNCompleteColumn()
    with Progress(*columns, TimeElapsedColumn(), console=err, transient=True) as progress:
        bar = progress.add_task("", total=len(checks))

        def begins(check: Check) -> None:
            progress.update(bar, description=f"section {check.section}")

        def ended(_: Result) -> None:
            progress.update(bar, advance=1)

        def waits(why: str) -> None:
            progress.update(bar, description=why)

        try:
            return asyncio.run(run(options, checks, Watcher(begins, ended, waits)))
        except Unreachable as failure:
            reason = f"{options.url} cannot be reached: {failure}", exits.UNAVAILABLE
        except KeyRefused as failure:
            reason = f"the API key opens nothing: {failure}", exits.NOT_ALLOWED
    stop(*reason)


def _print_json(value: Any) -> None:
    typer.echo(msgspec.json.format(msgspec.json.encode(value)).decode())


def _list(checks: Sequence[Check], *, as_json: bool) -> None:
    if as_json:
        members = ("section", "name", "sentence", "extension")
        _print_json([{name: getattr(check, name) for name in members} for check in checks])
        return
    table = Table("section", "name", "", "sentence")
    for section in SECTIONS:
        for check in checks:
            if check.section == section:
                table.add_row(section, check.name, _mark(check.extension), Text(check.sentence))
    out.print(table)


def _show(report: Report) -> None:
    for section, title in SECTIONS.items():
        results = [result for result in report.results if result.section == section]
        if results:
            out.print(_section_table(f"{section}. {title}", results))
    for path in report.left:
        out.print(Text(f"left behind: {path}", "yellow"))
    out.print(_summary(report))


def _section_table(title: str, results: Sequence[Result]) -> Table:
    table = Table("", "", "sentence", title=title, title_justify="left", expand=True)
    table.columns[2].ratio = 1
    for result in results:
        sentence = Text(result.sentence)
        if result.detail is not None:
            sentence.append(f"\n{result.detail}", STYLES[result.outcome])
        table.add_row(Text(result.outcome, STYLES[result.outcome]), _mark(result.extension), sentence)
    return table


def _mark(extension: bool) -> Text:
    return Text("[+]" if extension else "")


def _summary(report: Report) -> Table:
    table = Table("", "passed", "failed", "skipped", title=report.url, title_justify="left")
    for name, extension in (("contract", False), ("[+] extensions", True)):
        mine = [result for result in report.results if result.extension is extension]
        counts = [sum(result.outcome == outcome for result in mine) for outcome in ("passed", "failed", "skipped")]
        table.add_row(Text(name), *map(str, counts))
    return table
