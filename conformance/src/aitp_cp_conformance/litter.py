"""What a run makes on the deployment, noticed as it is made and taken away at the end."""

from urllib.parse import quote, urlencode

from aitp_cp_conformance.model import Broken, Skipped
from aitp_cp_conformance.wire import Answer, Caller

# What is made under these, and under which of its members the record says how to find it again.
_BY_ID = {"POST /api/webhooks": "/api/webhooks/", "POST /api/trust-anchors": "/api/trust-anchors/"}


class Litter:
    """Paths to delete, in the order in which they came to be."""

    def __init__(self) -> None:
        self._paths: dict[str, None] = {}

    def notice(self, answer: Answer) -> None:
        """Called with every answer, so that nothing is missed that a check did not mean to make."""
        if answer.status != 201 or not (path := _made(answer)):
            return
        self._paths[path] = None

    async def tidy(self, admin: Caller) -> list[str]:
        """Delete everything, newest first; what is left over, and why."""
        left = []
        for path in reversed(self._paths):
            try:
                answer = await admin.delete(path)
            except (Broken, Skipped) as failure:
                left.append(f"{path}: {failure}")
                continue
            if answer.status not in {200, 204, 404}:
                left.append(f"{path}: {answer}")
        return left


def _made(answer: Answer) -> str | None:
    try:
        said = answer.json
        if answer.request in _BY_ID:
            return _BY_ID[answer.request] + quote(said["id"], safe="")
        if answer.request == "POST /api/registry/agents":
            return agent_path(said["aid"])
        if answer.request == "POST /api/pinned-keys":
            return "/api/pinned-keys?" + urlencode({"namespace": said["namespace"], "aid": said["aid"]})
    except (Broken, KeyError, TypeError):
        pass
    return None


def agent_path(aid: str) -> str:
    """The agent's path, with the AID percent-encoded."""
    return "/api/registry/agents/" + quote(aid, safe="")
