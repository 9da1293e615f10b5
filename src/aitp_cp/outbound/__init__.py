"""Requests to addresses that somebody else chose: guarded against reaching our own network."""

from aitp_cp.outbound.client import GuardedClient
from aitp_cp.outbound.codings import Undecodable, decoded
from aitp_cp.outbound.model import Policy, Refused, Reply, Unreachable
from aitp_cp.outbound.policy import origin_of, parse_url, policy_of

__all__ = [
    "GuardedClient",
    "Policy",
    "Refused",
    "Reply",
    "Undecodable",
    "Unreachable",
    "decoded",
    "origin_of",
    "parse_url",
    "policy_of",
]
