"""All sub-commands in one list."""

import typer

from aitp_cp import __version__
from aitp_cp.cli import check, dev, keygen, migrate, openapi, serve

app = typer.Typer(
    name="aitp-cp",
    help="The AITP control plane: see and steer a fleet of AI agents.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback(invoke_without_command=True)
def version(
    show: bool = typer.Option(False, "--version", help="Print the version and leave.", is_eager=True),
) -> None:
    if show:
        typer.echo(__version__)
        raise typer.Exit


app.command("serve")(serve.serve)
app.command("dev")(dev.dev)
app.command("migrate")(migrate.migrate)
app.command("check")(check.check)
app.command("keygen")(keygen.keygen)
app.command("openapi")(openapi.openapi)
