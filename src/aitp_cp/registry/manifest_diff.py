"""What has changed from one manifest of an agent to another."""

from typing import Any
from urllib.parse import urlsplit

import msgspec

UNCOMPARED = {"aid", "signature", "proof_of_possession", "offered_capabilities", "extensions"}  # or compared apart


class Changed(msgspec.Struct, frozen=True):
    """A member and its value as JSON, None where it is absent; one of `extensions` as `extensions.<name>`."""

    member: str
    before: str | None
    after: str | None


class ManifestDiff(msgspec.Struct, frozen=True):
    """`host_changed` says that the agent answers at another host; its endpoint is then in `changed` too."""

    capabilities_added: list[str]
    capabilities_removed: list[str]
    host_changed: bool
    changed: list[Changed]


def diff(before: str, after: str) -> ManifestDiff:
    """Compare two stored envelopes, in the order of the later one; what cannot be read counts as empty."""
    old, new = _members(before), _members(after)
    offered, offers = _capabilities(old), _capabilities(new)
    return ManifestDiff(
        capabilities_added=[name for name in offers if name not in set(offered)],
        capabilities_removed=[name for name in offered if name not in set(offers)],
        host_changed=_host(old) != _host(new),
        changed=_changed(_flat(old), _flat(new)),
    )


def _members(text: str) -> dict[str, Any]:
    try:
        envelope = msgspec.json.decode(text)
    except msgspec.MsgspecError:
        return {}
    manifest = envelope.get("manifest") if isinstance(envelope, dict) else None
    return manifest if isinstance(manifest, dict) else {}


def _capabilities(members: dict[str, Any]) -> list[str]:
    offered = members.get("offered_capabilities")
    return [name for name in offered if isinstance(name, str)] if isinstance(offered, list) else []


def _flat(members: dict[str, Any]) -> dict[str, Any]:
    extensions = members.get("extensions")
    named = extensions.items() if isinstance(extensions, dict) else ()
    return {
        **{name: value for name, value in members.items() if name not in UNCOMPARED},
        **{f"extensions.{name}": value for name, value in named},
    }


def _changed(old: dict[str, Any], new: dict[str, Any]) -> list[Changed]:
    names = [*new, *(name for name in old if name not in new)]
    return [
        Changed(name, _json(old, name), _json(new, name))
        for name in names
        if name not in old or name not in new or old[name] != new[name]
    ]


def _json(members: dict[str, Any], name: str) -> str | None:
    return msgspec.json.encode(members[name]).decode() if name in members else None


def _host(members: dict[str, Any]) -> str | None:
    try:
        return urlsplit(str(members.get("handshake_endpoint"))).netloc
    except ValueError:
        return None
