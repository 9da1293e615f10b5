"""Records what a run creates on the deployment, and deletes or ends it."""

from urllib.parse import quote, urlencode

from aitp_cp_conformance.model import Broken, Skipped
from aitp_cp_conformance.wire import Caller, Response

# Requests that create a record, and the path prefix of records with an id.
_BY_ID = {"POST /api/webhooks": "/api/webhooks/", "POST /api/trust-anchors": "/api/trust-anchors/"}


_CONTAIN, _RELEASE = "/contain", "/release"


class Cleanup:
    """The paths to delete, in the order of creation; an agent that was contained is released."""

    def __init__(self) -> None:
        self._paths: dict[str, None] = {}

    def record(self, response: Response) -> None:
        """Remember what this response created; called with every response of the run."""
        if response.status == 201 and (path := _created_path(response)):
            self._paths[path] = None
        if response.status == 200 and response.request.endswith(_RELEASE):
            self._paths.pop(response.request.removeprefix("POST "), None)

    async def run(self, admin: Caller) -> list[str]:
        """Delete everything, newest first; return the paths that remain, with the reasons."""
        remaining = []
        for path in list(reversed(self._paths)):
            try:
                response = await _undo(admin, path)
            except (Broken, Skipped) as failure:
                remaining.append(f"{path}: {failure}")
                continue
            if response.status not in {200, 204, 404}:
                remaining.append(f"{path}: {response}")
        return remaining


async def _undo(admin: Caller, path: str) -> Response:
    if path.endswith(_RELEASE):
        return await admin.post(path, {"reason": "end of a conformance run"})
    return await admin.delete(path)


def _created_path(response: Response) -> str | None:
    try:
        record = response.json
        if response.request in _BY_ID:
            return _BY_ID[response.request] + quote(record["id"], safe="")
        if response.request == "POST /api/keys":
            return f"/api/keys/{quote(record['id'], safe='')}?family=true"
        if response.request == "POST /api/registry/agents":
            return agent_path(record["aid"])
        if response.request.endswith(_CONTAIN):
            return agent_path(record["containment"]["aid"]) + _RELEASE
        if response.request == "POST /api/pinned-keys":
            return "/api/pinned-keys?" + urlencode({"namespace": record["namespace"], "aid": record["aid"]})
    except (Broken, KeyError, TypeError):
        pass
    return None


def agent_path(aid: str) -> str:
    """Return the agent's path, with the AID percent-encoded."""
    return "/api/registry/agents/" + quote(aid, safe="")
