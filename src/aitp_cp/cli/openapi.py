"""aitp-cp openapi."""

import typer


def openapi() -> None:
    """Print the OpenAPI 3.1 document."""
    from aitp_cp.app import openapi_document

    typer.echo(openapi_document().decode())
