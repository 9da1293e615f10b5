"""Everything that `aitp_cp_client` exports."""

from aitp_cp_client.agents import Agent, Deregistration, Enrollment, KeptManifest, Registration
from aitp_cp_client.audit import AuditEntry
from aitp_cp_client.containments import Containment, ContainmentRecord, Reach
from aitp_cp_client.control_plane import ControlPlane
from aitp_cp_client.dashboard import AgentActivity, Overview
from aitp_cp_client.errors import ControlPlaneError
from aitp_cp_client.events import Event, Ingested, Reset
from aitp_cp_client.health import Health, Readiness
from aitp_cp_client.keys import ApiKey, CreatedKey, RevokedKeys, WhoAmI
from aitp_cp_client.notes import AgentNotes, Hit
from aitp_cp_client.options import Retries, Timeouts
from aitp_cp_client.paging import Rows
from aitp_cp_client.proof import AgentToken
from aitp_cp_client.published import Manifest, RevocationList
from aitp_cp_client.reporting.model import Counters, Limits
from aitp_cp_client.reporting.reporter import Reporter, ThreadReporter
from aitp_cp_client.revocation import BulkRevocation, Revocation
from aitp_cp_client.sessions import Session, SessionDetail
from aitp_cp_client.signing import SigningKey
from aitp_cp_client.tokens import Delegation, Tct
from aitp_cp_client.trust import AnchorPatch, PinnedKey, TrustAnchor
from aitp_cp_client.webhooks import Attempt, Breaker, Delivery, MovedWebhook, Queued, Webhook, WebhookHealth

__all__ = [
    "Agent",
    "AgentActivity",
    "AgentNotes",
    "AgentToken",
    "AnchorPatch",
    "ApiKey",
    "Attempt",
    "AuditEntry",
    "Breaker",
    "BulkRevocation",
    "Containment",
    "ContainmentRecord",
    "ControlPlane",
    "ControlPlaneError",
    "Counters",
    "CreatedKey",
    "Delegation",
    "Delivery",
    "Deregistration",
    "Enrollment",
    "Event",
    "Health",
    "Hit",
    "Ingested",
    "KeptManifest",
    "Limits",
    "Manifest",
    "MovedWebhook",
    "Overview",
    "PinnedKey",
    "Queued",
    "Reach",
    "Readiness",
    "Registration",
    "Reporter",
    "Reset",
    "Retries",
    "Revocation",
    "RevocationList",
    "RevokedKeys",
    "Rows",
    "Session",
    "SessionDetail",
    "SigningKey",
    "Tct",
    "ThreadReporter",
    "Timeouts",
    "TrustAnchor",
    "Webhook",
    "WebhookHealth",
    "WhoAmI",
]
