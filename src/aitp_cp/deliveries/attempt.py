"""One POST, and what its response means (contract, section 12)."""

from datetime import datetime

import msgspec

from aitp_cp.deliveries.heads import head_of
from aitp_cp.deliveries.model import Attempt, Outcome, Verdict
from aitp_cp.deliveries.retry import retry_after_secs
from aitp_cp.deliveries.signing import sent_signatures, signature_headers
from aitp_cp.outbound import GuardedClient, Refused, Reply, Unreachable

DEADLINE_SECS = 10.0
MAX_ANSWER_BYTES = 64 * 1024
GONE = 410
BUSY = frozenset({429, 503})  # their Retry-After is honoured


async def post(client: GuardedClient, attempt: Attempt, now: datetime) -> Outcome:
    """Send the delivery's bytes, signed with the current secret; every failure of the receiver is an outcome."""
    signatures = signature_headers(attempt.secret, attempt.id, attempt.body, now)
    headers = {
        "Content-Type": "application/json",
        "X-Aitp-Event": attempt.event_type,
        "X-Aitp-Delivery": str(attempt.id),
        **signatures,
    }
    try:
        reply = await client.send(
            "POST",
            attempt.url,
            headers=headers,
            body=attempt.body,
            deadline_secs=DEADLINE_SECS,
            max_bytes=MAX_ANSWER_BYTES,
        )
    except Refused as refused:
        return Outcome(Verdict.REFUSED, error=f"not sent: {refused}")
    except Unreachable as failure:
        return Outcome(Verdict.FAILED, error=str(failure))
    head, cut = head_of(reply, [attempt.secret, *sent_signatures(signatures)])
    return msgspec.structs.replace(_outcome(reply, now), head=head, cut=cut)


def _outcome(reply: Reply, now: datetime) -> Outcome:
    """Judge a reply by its status alone."""
    status = reply.status
    if 200 <= status < 300:
        return Outcome(Verdict.DELIVERED, status)
    if status == GONE:
        return Outcome(Verdict.GONE, status, "the receiver answered 410 Gone: the webhook was deactivated")
    error = f"the receiver answered {status}"
    if 300 <= status < 400:
        error += "; redirects are not followed"
    secs = retry_after_secs(reply.headers.get("retry-after"), now) if status in BUSY else None
    return Outcome(Verdict.FAILED, status, error, secs)
