"""Who trusts whom: an agent trusts those that hold a live token it issued (contract, section 22).

Everything is bounded, so that the busiest agent is answered in time: what is beyond is counted, or said to be there.
"""

from datetime import datetime

import msgspec

from aitp_cp.db import Connection, shown

MAX_TOKENS = 10_000  # of either side
NAMED_PEERS = 24  # of either side; the rest is counted
NAMED_HOPS = 12  # delegations between two agents
MAX_SOURCES = 2_000  # tokens whose delegations are followed
MAX_CHILDREN = 100  # delegations of one token or delegation that are followed
MAX_BELOW = 5_000
MAX_DEPTH = 32
SECOND_HOP_PEERS = 100
SECOND_HOP_TOKENS = 100  # of either side of each peer
RANKED_TOKENS = 20_000  # newest tokens among which the most trusted are found
RANKED = 50
MAX_LIVE = 100_000  # live tokens are counted up to here

_LIVE = "NOT revoked AND coalesce(expires_at, 'infinity'::timestamptz) > $2"
_VERIFIED = "verdict IS NOT DISTINCT FROM 'verified' AND NOT coalesce(conflict, false)"
_GRANTED = "($3::text IS NULL OR {grants} @> jsonb_build_array($3::text))"

_SIDE = """(
    SELECT jti, '{side}' AS side, {peer} AS peer, {verified} AS verified, {live} AS live, expires_at, issued_at
    FROM issued_tcts WHERE {own} = $1 AND {peer} <> $1 AND {where}
    ORDER BY {order} LIMIT {limit}
)"""


def _tokens(where: str, order: str) -> str:
    """Return the newest or the longest living tokens of both sides, each side off its own index."""
    parts = {"verified": _VERIFIED, "live": _LIVE, "where": where, "order": order, "limit": MAX_TOKENS}
    return " UNION ALL ".join(
        (
            _SIDE.format(side="trusts", own="issuer_aid", peer="subject_aid", **parts),
            _SIDE.format(side="trusted", own="subject_aid", peer="issuer_aid", **parts),
        )
    )


_GRANTED_TOKENS = _GRANTED.format(grants="grants")
_LIVE_TOKENS = _tokens(f"{_LIVE} AND {_GRANTED_TOKENS}", "coalesce(expires_at, 'infinity'::timestamptz) DESC")
_ALL_TOKENS = _tokens(_GRANTED_TOKENS, "issued_at DESC")

# LIMIT within a lateral subquery keeps the planner from joining whole tables.
_HOP = f"jti, delegator_aid, delegatee_aid, {_VERIFIED} AS verified"
_LIVE_HOP = f"{_LIVE} AND {_GRANTED.format(grants='scope')}"
_CHILDREN = f"""(
    SELECT {_HOP} FROM delegations WHERE parent_jti = {{source}}.jti AND {_LIVE_HOP} LIMIT {MAX_CHILDREN}
)"""
_HOPS_OF = f"""(
    SELECT {_HOP} FROM delegations WHERE {{own}} = $1 AND {_LIVE_HOP} ORDER BY issued_at DESC LIMIT {MAX_CHILDREN}
)"""
_NEXT = f"""(
    SELECT {{peer}} AS aid FROM issued_tcts WHERE {{own}} = near.peer AND {_LIVE} LIMIT {SECOND_HOP_TOKENS}
)"""

# $1 the agent, $2 now, $3 a capability or null, $4 the fewest tokens of an edge that is named or counted.
EGO = f"""
WITH RECURSIVE token AS MATERIALIZED ({{tokens}}), peer AS MATERIALIZED (
    SELECT side, peer, count(*) AS tokens, count(*) FILTER (WHERE live) AS live,
           count(*) FILTER (WHERE verified) AS verified, max(expires_at) AS until, max(issued_at) AS latest,
           row_number() OVER (PARTITION BY side ORDER BY count(*) DESC, peer) AS place
    FROM token GROUP BY side, peer HAVING count(*) >= $4
), below AS (
    SELECT 1 AS level, first.* FROM (
        SELECT child.* FROM (SELECT jti FROM token WHERE live LIMIT {MAX_SOURCES}) AS source
        CROSS JOIN LATERAL {_CHILDREN.format(source="source")} AS child
        UNION
        {_HOPS_OF.format(own="delegator_aid")}
        UNION
        {_HOPS_OF.format(own="delegatee_aid")}
    ) AS first
    UNION
    SELECT below.level + 1, child.* FROM below CROSS JOIN LATERAL {_CHILDREN.format(source="below")} AS child
    WHERE below.level < {MAX_DEPTH}
), reached AS MATERIALIZED (
    SELECT DISTINCT ON (jti) * FROM (SELECT * FROM below LIMIT {MAX_BELOW}) AS bounded ORDER BY jti, level
), near AS MATERIALIZED (
    SELECT peer FROM token WHERE live GROUP BY peer ORDER BY count(*) DESC, peer LIMIT {SECOND_HOP_PEERS}
), beyond AS (
    SELECT DISTINCT aid FROM near CROSS JOIN LATERAL (
        {_NEXT.format(own="issuer_aid", peer="subject_aid")}
        UNION ALL
        {_NEXT.format(own="subject_aid", peer="issuer_aid")}
    ) AS next WHERE aid <> $1 AND aid NOT IN (SELECT peer FROM token WHERE live)
)
SELECT
    (SELECT coalesce(jsonb_agg(jsonb_build_object(
        'side', side, 'aid', peer, 'tokens', tokens, 'live', live, 'verified', verified,
        'until', {shown("until")}, 'latest', {shown("latest")}) ORDER BY place), '[]')::text
     FROM peer WHERE place <= {NAMED_PEERS}) AS peers,
    (SELECT coalesce(jsonb_object_agg(side, jsonb_build_object(
        'agents', agents, 'tokens', tokens, 'verified', verified)), '{{{{}}}}')::text
     FROM (SELECT side, count(*) AS agents, sum(tokens) AS tokens, sum(verified) AS verified
           FROM peer GROUP BY side) AS sides) AS sides,
    (SELECT coalesce(max(count), 0) FROM (SELECT count(*) FROM token GROUP BY side) AS counts) AS most,
    (SELECT coalesce(jsonb_agg(jsonb_build_object('level', level, 'delegations', delegations, 'agents', agents)
                               ORDER BY level), '[]')::text
     FROM (SELECT level, count(*) AS delegations, count(DISTINCT delegatee_aid) AS agents
           FROM reached GROUP BY level) AS levels) AS levels,
    (SELECT coalesce(jsonb_agg(jsonb_build_object('level', level, 'delegator', delegator_aid,
                               'delegatee', delegatee_aid, 'delegations', delegations, 'verified', verified)
                               ORDER BY level, delegations DESC, delegator_aid, delegatee_aid), '[]')::text
     FROM (SELECT level, delegator_aid, delegatee_aid, count(*) AS delegations,
                  count(*) FILTER (WHERE verified) AS verified
           FROM reached GROUP BY level, delegator_aid, delegatee_aid
           ORDER BY level, delegations DESC, delegator_aid, delegatee_aid LIMIT {NAMED_HOPS}) AS hops) AS hops,
    (SELECT count(DISTINCT delegatee_aid) FROM reached WHERE delegatee_aid <> $1) AS below,
    (SELECT count(*) FROM reached) AS delegations,
    (SELECT count(DISTINCT peer) FROM token WHERE live) AS live_peers,
    (SELECT count(*) FROM token WHERE live) AS live_tokens,
    (SELECT count(*) FROM beyond) AS second_hop
"""
LIVE_EGO = EGO.format(tokens=_LIVE_TOKENS)
WHOLE_EGO = EGO.format(tokens=_ALL_TOKENS)

# Of the newest tokens only: the cost does not grow with the table.
MOST_TRUSTED = f"""
SELECT subject_aid AS aid, count(DISTINCT issuer_aid) AS agents, count(*) AS tokens,
       count(*) FILTER (WHERE verified) AS verified
FROM (
    SELECT issuer_aid, subject_aid, revoked, expires_at, grants, {_VERIFIED} AS verified
    FROM issued_tcts ORDER BY issued_at DESC, jti LIMIT {RANKED_TOKENS}
) AS newest
WHERE issuer_aid <> subject_aid AND NOT revoked AND coalesce(expires_at, 'infinity'::timestamptz) > $1
  AND ($2::text IS NULL OR grants @> jsonb_build_array($2::text))
GROUP BY subject_aid HAVING count(*) >= $3
ORDER BY agents DESC, tokens DESC, aid LIMIT {RANKED}
"""


COUNT_LIVE = f"""
SELECT least((SELECT count(*) FROM (SELECT 1 FROM issued_tcts WHERE NOT revoked AND expires_at > $1
                                    LIMIT {MAX_LIVE}) AS ending)
             + (SELECT count(*) FROM (SELECT 1 FROM issued_tcts WHERE NOT revoked AND expires_at IS NULL
                                      LIMIT {MAX_LIVE}) AS endless), {MAX_LIVE})
"""


class PeerEdge(msgspec.Struct, frozen=True):
    """All tokens between the agent and one peer, in one direction."""

    side: str
    aid: str
    tokens: int
    live: int
    verified: int
    until: str | None
    latest: str


class SideTotal(msgspec.Struct, frozen=True):
    agents: int = 0
    tokens: int = 0
    verified: int = 0


class Level(msgspec.Struct, frozen=True):
    """Delegations so many steps below a token of the agent, and to how many agents."""

    level: int
    delegations: int
    agents: int


class Hop(msgspec.Struct, frozen=True):
    """All delegations from one agent to another on one level."""

    level: int
    delegator: str
    delegatee: str
    delegations: int
    verified: int


class Ego(msgspec.Struct, frozen=True):
    """What hangs on one agent; `most` is how many tokens were read of the side with more."""

    peers: list[PeerEdge]
    sides: dict[str, SideTotal]
    most: int
    levels: list[Level]
    hops: list[Hop]
    below: int
    delegations: int
    live_peers: int
    live_tokens: int
    second_hop: int


class Trusted(msgspec.Struct, frozen=True):
    """An agent, by how many others it is trusted, and with how many live tokens."""

    aid: str
    agents: int
    tokens: int
    verified: int


_JSON = {"peers": list[PeerEdge], "sides": dict[str, SideTotal], "levels": list[Level], "hops": list[Hop]}


async def ego(
    conn: Connection, aid: str, now: datetime, *, live_only: bool, grant: str | None = None, min_tokens: int = 1
) -> Ego:
    """Return the edges of one agent, in one statement, so of one moment."""
    row = await conn.fetchrow(LIVE_EGO if live_only else WHOLE_EGO, aid, now, grant, min_tokens)
    assert row is not None
    return Ego(**{**row, **{name: msgspec.json.decode(row[name], type=kind) for name, kind in _JSON.items()}})


async def most_trusted(conn: Connection, now: datetime, grant: str | None, min_tokens: int) -> list[Trusted]:
    """Return the agents that most others trust, by the newest tokens."""
    return [Trusted(**row) for row in await conn.fetch(MOST_TRUSTED, now, grant, min_tokens)]


async def count_live(conn: Connection, now: datetime) -> int:
    """Return how many tokens are neither revoked nor expired, at most `MAX_LIVE`."""
    return int(await conn.fetchval(COUNT_LIVE, now))
