"""`aitp-cp conformance`: run the checks and print the report."""

import asyncio
from collections.abc import Sequence

import typer
from rich.table import Table
from rich.text import Text

from aitp_cp_client.commands import exits
from aitp_cp_client.commands.connection import key_of_environment
from aitp_cp_client.commands.output import document, out, stop
from aitp_cp_client.commands.progress import counting
from aitp_cp_client.options import base_url, bearer
from aitp_cp_client.wire.visible import escaped
from aitp_cp_conformance.catalogue import chosen
from aitp_cp_conformance.check import Check
from aitp_cp_conformance.command import ConformanceOptions
from aitp_cp_conformance.model import SECTIONS, KeyRefused, Options, Report, Result, Unreachable
from aitp_cp_conformance.runner import Watcher, run

STYLES = {"passed": "green", "failed": "bold red", "skipped": "yellow"}


def conformance(options: ConformanceOptions) -> None:
    """Run the checks, print the report, and exit with 1 if a check failed."""
    checks = chosen(_sections(options.section or ()), attacks=options.attacks)
    if options.show_list:
        _list(checks, as_json=options.as_json)
        return
    report = _run_or_stop(_options(options), checks)
    if options.as_json:
        document(report)
    else:
        _show(report)
    if report.count("failed"):
        raise typer.Exit(exits.REFUSED)


def _sections(names: Sequence[str]) -> frozenset[str]:
    unknown = [section for section in names if section not in SECTIONS]
    if unknown:
        stop(f"no checks of section {', '.join(unknown)}; there are {', '.join(SECTIONS)}", exits.USAGE)
    return frozenset(names)


def _options(options: ConformanceOptions) -> Options:
    try:
        url = str(base_url(options.url or ""))
    except ValueError as wrong:
        stop(f"{wrong}; name it with --url or AITP_CP_URL, as in --url https://cp.example", exits.USAGE)
    return Options(
        url=url,
        api_key=_key(options.api_key),
        environment=options.environment,
        origin=options.origin,
        webhook_host=options.webhook_host,
        receiver_host=options.receiver_host,
        patience_secs=options.patience,
        revoke=options.revoke,
        metrics=options.metrics,
    )


def _key(option: str | None) -> str | None:
    try:
        key = option or key_of_environment()
        if key is not None:
            bearer(key)
    except ValueError as wrong:
        stop(str(wrong), exits.USAGE)
    return key


def _run_or_stop(options: Options, checks: Sequence[Check]) -> Report:
    with counting("{task.description}") as progress:
        bar = progress.add_task("", total=len(checks))

        def begins(check: Check) -> None:
            progress.update(bar, description=f"section {check.section}")

        def ended(_: Result) -> None:
            progress.update(bar, advance=1)

        def waits(why: str) -> None:
            progress.update(bar, description=escaped(why))

        try:
            return asyncio.run(run(options, checks, Watcher(begins, ended, waits)))
        except Unreachable as failure:
            reason = f"{options.url} cannot be reached: {failure}", exits.UNAVAILABLE
        except KeyRefused as failure:
            reason = f"the API key is refused: {failure}", exits.NOT_ALLOWED
    stop(*reason)


def _list(checks: Sequence[Check], *, as_json: bool) -> None:
    if as_json:
        members = ("section", "name", "sentence", "extension")
        document([{name: getattr(check, name) for name in members} for check in checks])
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
        out.print(Text(escaped(f"left behind: {path}"), "yellow"))
    out.print(_summary(report))


def _section_table(title: str, results: Sequence[Result]) -> Table:
    table = Table("", "", "sentence", title=title, title_justify="left", expand=True)
    table.columns[2].ratio = 1
    for result in results:
        sentence = Text(result.sentence)
        if result.detail is not None:
            sentence.append(f"\n{escaped(result.detail)}", STYLES[result.outcome])
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
