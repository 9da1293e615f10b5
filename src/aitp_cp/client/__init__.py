"""A typed async client of the control plane's API, for operators' tools and for agents (docs/client.md)."""

from aitp_cp.client.agents import Agent, Deregistration, Enrollment, Registration
from aitp_cp.client.audit import AuditEntry
from aitp_cp.client.control_plane import ControlPlane
from aitp_cp.client.dashboard import AgentActivity, Overview
from aitp_cp.client.errors import ControlPlaneError
from aitp_cp.client.events import Event, Ingested, Reset
from aitp_cp.client.health import Health, Readiness
from aitp_cp.client.options import Retries, Timeouts
from aitp_cp.client.paging import Rows
from aitp_cp.client.published import Manifest, RevocationList
from aitp_cp.client.revocation import BulkRevocation, Revocation
from aitp_cp.client.sessions import Session, SessionDetail
from aitp_cp.client.tokens import Delegation, Tct
from aitp_cp.client.trust import AnchorPatch, PinnedKey, TrustAnchor
from aitp_cp.client.webhooks import Breaker, Delivery, MovedWebhook, Webhook

__all__ = [
    "Agent",
    "AgentActivity",
    "AnchorPatch",
    "AuditEntry",
    "Breaker",
    "BulkRevocation",
    "ControlPlane",
    "ControlPlaneError",
    "Delegation",
    "Delivery",
    "Deregistration",
    "Enrollment",
    "Event",
    "Health",
    "Ingested",
    "Manifest",
    "MovedWebhook",
    "Overview",
    "PinnedKey",
    "Readiness",
    "Registration",
    "Reset",
    "Retries",
    "Revocation",
    "RevocationList",
    "Rows",
    "Session",
    "SessionDetail",
    "Tct",
    "Timeouts",
    "TrustAnchor",
    "Webhook",
]
