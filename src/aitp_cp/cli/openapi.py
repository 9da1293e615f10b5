"""aitp-cp openapi."""

from aitp_cp_client.commands.output import line


def openapi() -> None:
    """Print the OpenAPI 3.1 document."""
    from aitp_cp.app import openapi_document

    line(openapi_document().decode())
