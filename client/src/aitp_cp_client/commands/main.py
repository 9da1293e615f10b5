"""All sub-commands; each loads its modules only when it runs."""

from importlib.metadata import entry_points

import typer

from aitp_cp_client.commands import remote
from aitp_cp_client.version import __version__

# Each entry point of this group names a Typer object with further commands. A command replaces one of the same name:
# with the server installed, `keys` also works on its database.
GROUP = "aitp_cp.commands"

app = typer.Typer(
    name="aitp-cp",
    help="The AITP control plane: monitor and control a fleet of AI agents.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback(invoke_without_command=True)
def version(
    show: bool = typer.Option(False, "--version", help="Print the version and exit.", is_eager=True),
) -> None:
    if show:
        from aitp_cp_client.commands.output import line

        line(__version__)
        raise typer.Exit


remote.add_to(app)
for point in sorted(entry_points(group=GROUP), key=lambda point: point.name):
    app.add_typer(point.load())  # of two commands with one name, the later one counts
