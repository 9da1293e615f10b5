"""Single sign-on by OpenID Connect: authorization code with PKCE, through Authlib (contract, section 18).

Only the issuer of the settings is asked, through the guarded client, and nothing of its responses is kept but what it
publishes. Authlib is an extra of the distribution, so only a process with `OIDC_ISSUER` imports this module.
"""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import msgspec
from authlib.oauth2.auth import ClientAuth  # type: ignore[import-untyped]
from authlib.oauth2.rfc6749.parameters import (  # type: ignore[import-untyped]
    prepare_grant_uri,
    prepare_token_request,
)
from authlib.oauth2.rfc7636 import create_s256_code_challenge  # type: ignore[import-untyped]
from authlib.oidc.core import CodeIDToken  # type: ignore[import-untyped]
from joserfc import jwt
from joserfc.errors import InvalidKeyIdError, JoseError
from joserfc.jwk import KeySet
from joserfc.jws import JWSRegistry

from aitp_cp.accounts.attempt import Attempt
from aitp_cp.accounts.model import LoginRefused, Method, NoRole, ProviderAway, SignIn
from aitp_cp.accounts.service import subject_of
from aitp_cp.clock import EPOCH
from aitp_cp.outbound import GuardedClient, Refused, Unreachable
from aitp_cp.protocol.scopes import ROLES, Role, Scope, in_order
from aitp_cp.runtime import Runtime

T = TypeVar("T")

# No `none`, and no symmetric ones: the client secret is no signing key.
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519")
DISCOVERY = "/.well-known/openid-configuration"
LOGOUT_EVENT = "http://schemas.openid.net/event/backchannel-logout"
FORM = {"Accept": "application/json", "Content-Type": "application/x-www-form-urlencoded"}
DEADLINE_SECS = 10.0
MAX_BYTES = 256 * 1024
KEEP_SECS = 3600.0  # what the provider publishes
RELOAD_SECS = 30.0  # between two fetches for the sake of unknown keys
LEEWAY_SECS = 60
MAX_SUB = 255  # OpenID Connect Core, section 2
MAX_GROUPS = 200
NAMES = ("preferred_username", "email", "name")


class Metadata(msgspec.Struct, frozen=True):
    """What a provider publishes of itself, as far as it is used."""

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    userinfo_endpoint: str | None = None
    id_token_signing_alg_values_supported: tuple[str, ...] = ("RS256",)
    token_endpoint_auth_methods_supported: tuple[str, ...] = ("client_secret_basic",)


class _Tokens(msgspec.Struct, frozen=True):
    id_token: str
    access_token: str | None = None


class Provider:
    """The OpenID provider of the settings."""

    def __init__(self, rt: Runtime, client: GuardedClient) -> None:
        settings = rt.settings
        assert settings.oidc_issuer is not None
        self._rt = rt
        self._http = client
        self._issuer, self._client_id = settings.oidc_issuer, settings.oidc_client_id or ""
        secret = settings.oidc_client_secret
        self._secret = None if secret is None else secret.get_secret_value()
        self._metadata: Metadata | None = None
        self._keys: KeySet | None = None
        self._read_at = self._keys_at = -KEEP_SECS
        self._reading = asyncio.Lock()

    async def address(self, attempt: Attempt, state: str, redirect_uri: str) -> str:
        """Return where the browser signs in; raises `ProviderAway`."""
        metadata = await self._published()
        again = {"prompt": "login", "max_age": "0"} if attempt.again else {}
        address: str = prepare_grant_uri(
            metadata.authorization_endpoint,
            client_id=self._client_id,
            response_type="code",
            redirect_uri=redirect_uri,
            scope=self._rt.settings.oidc_scopes,
            state=state,
            nonce=attempt.nonce,
            code_challenge=create_s256_code_challenge(attempt.verifier),
            code_challenge_method="S256",
            **again,
        )
        return address

    async def redeem(self, code: str, attempt: Attempt, redirect_uri: str) -> SignIn:
        """Return who has signed in; raises `LoginRefused`, `NoRole` and `ProviderAway`."""
        metadata = await self._published()
        tokens = await self._exchange(metadata, code, attempt, redirect_uri)
        claims = await self._verified(metadata, tokens.id_token, attempt, tokens.access_token)
        if self._rt.settings.oidc_role_claim not in claims and metadata.userinfo_endpoint and tokens.access_token:
            claims = {**await self._user_info(metadata.userinfo_endpoint, tokens.access_token, claims["sub"]), **claims}
        return SignIn(
            subject=subject_of(self._issuer, claims["sub"]),
            display=next((name for name in map(claims.get, NAMES) if isinstance(name, str) and name), None),
            scopes=self._scopes(claims),
            method=Method.OIDC,
            auth_at=_authenticated_at(claims, attempt),
            idp_sid=_short(claims.get("sid")),
        )

    async def ended(self, logout_token: str) -> tuple[str | None, str | None]:
        """Return the provider's session and the subject that a back-channel logout names; one of them may be None.

        Raises `LoginRefused` and `ProviderAway` (OpenID Connect Back-Channel Logout, section 2.6).
        """
        metadata = await self._published()
        claims = self._claims(await self._decoded(metadata, logout_token), {})
        events = claims.get("events")
        sid, sub = _short(claims.get("sid")), _short(claims.get("sub"))
        if not isinstance(events, Mapping) or LOGOUT_EVENT not in events or "nonce" in claims or not (sid or sub):
            raise LoginRefused("logout token")
        return sid, None if sub is None else subject_of(self._issuer, sub)

    async def _exchange(self, metadata: Metadata, code: str, attempt: Attempt, redirect_uri: str) -> _Tokens:
        body = prepare_token_request(
            "authorization_code", code=code, redirect_uri=redirect_uri, code_verifier=attempt.verifier
        )
        if self._secret is None:
            method = "none"
        else:
            posts = "client_secret_basic" not in metadata.token_endpoint_auth_methods_supported
            method = "client_secret_post" if posts else "client_secret_basic"
        auth = ClientAuth(self._client_id, self._secret, method)
        url, headers, body = auth.prepare("POST", metadata.token_endpoint, dict(FORM), body)
        status, response = await self._ask("POST", url, headers, body.encode())
        if status != 200:
            raise LoginRefused("code") if 400 <= status < 500 else ProviderAway(f"token endpoint: {status}")
        return _read(response, _Tokens)

    async def _verified(
        self, metadata: Metadata, id_token: str, attempt: Attempt, access_token: str | None
    ) -> dict[str, Any]:
        claims = self._claims(
            await self._decoded(metadata, id_token),
            {"nonce": attempt.nonce, "client_id": self._client_id, "access_token": access_token},
        )
        sub = claims["sub"]
        if not isinstance(sub, str) or not 0 < len(sub) <= MAX_SUB or not sub.isascii() or not sub.isprintable():
            raise LoginRefused("sub")
        return claims

    def _claims(self, token: jwt.Token, known: dict[str, Any]) -> dict[str, Any]:
        """Return the claims of an ID token, or without a nonce of a logout token; raises `LoginRefused`."""
        expected = {"iss": {"essential": True, "value": self._issuer}}
        claims = CodeIDToken(token.claims, token.header, expected, known)
        if not known:
            claims.ESSENTIAL_CLAIMS = ["iss", "aud", "iat"]
        try:
            claims.validate(int(self._rt.clock().timestamp()), LEEWAY_SECS)
        except JoseError as wrong:
            raise LoginRefused(f"token: {wrong.error}") from None
        audience = claims["aud"]
        if self._client_id not in ([audience] if isinstance(audience, str) else audience):
            raise LoginRefused("token: aud")
        return dict(claims)

    async def _decoded(self, metadata: Metadata, token: str) -> jwt.Token:
        """Verify the signature; a key that is not known yet is fetched once."""
        offered = metadata.id_token_signing_alg_values_supported
        registry = JWSRegistry(algorithms=[name for name in ALGORITHMS if name in offered], strict_check_header=False)
        try:
            try:
                return jwt.decode(token, await self._key_set(metadata, KEEP_SECS), registry=registry)
            except InvalidKeyIdError:
                return jwt.decode(token, await self._key_set(metadata, RELOAD_SECS), registry=registry)
        except (JoseError, ValueError):
            raise LoginRefused("token: signature") from None

    async def _user_info(self, url: str, access_token: str, sub: str) -> dict[str, Any]:
        headers = {"Accept": "application/json", "Authorization": f"Bearer {access_token}"}
        status, response = await self._ask("GET", url, headers, None)
        if status != 200:
            raise ProviderAway(f"user info: {status}")
        info = _read(response, dict[str, Any])
        if info.get("sub") != sub:
            raise LoginRefused("user info: sub")
        return info

    def _scopes(self, claims: Mapping[str, Any]) -> tuple[str, ...]:
        """Return the scopes of all roles that the groups have; raises `NoRole`."""
        member: Any = claims
        name = self._rt.settings.oidc_role_claim
        for part in [name] if name in claims else name.split("."):
            member = member.get(part) if isinstance(member, Mapping) else None
        listed: Sequence[Any] = [member] if isinstance(member, str) else member if isinstance(member, list) else []
        groups = [group for group in listed[:MAX_GROUPS] if isinstance(group, str)]
        role_map = self._rt.settings.oidc_role_map
        scopes = frozenset[Scope]().union(*(ROLES[Role(role_map[group])] for group in groups if group in role_map))
        if not scopes:
            raise NoRole(groups)
        return tuple(map(str, in_order(scopes)))

    async def _published(self) -> Metadata:
        async with self._reading:
            now = asyncio.get_running_loop().time()
            if self._metadata is None or now - self._read_at > KEEP_SECS:
                response = await self._fetch(self._issuer.rstrip("/") + DISCOVERY)
                metadata = _read(response, Metadata)
                if metadata.issuer != self._issuer:
                    raise ProviderAway("its issuer is another than OIDC_ISSUER")
                if self._rt.settings.production and not metadata.authorization_endpoint.startswith("https://"):
                    raise ProviderAway("its authorization endpoint is not https")
                self._metadata, self._read_at = metadata, now
            return self._metadata

    async def _key_set(self, metadata: Metadata, keep_secs: float) -> KeySet:
        async with self._reading:
            now = asyncio.get_running_loop().time()
            if self._keys is None or now - self._keys_at > keep_secs:
                published = _read(await self._fetch(metadata.jwks_uri), dict[str, Any])
                keys = [key for key in published.get("keys", ()) if isinstance(key, dict)]
                self._keys, self._keys_at = KeySet.import_key_set({"keys": keys}), now
            return self._keys

    async def _fetch(self, url: str) -> bytes:
        status, response = await self._ask("GET", url, {"Accept": "application/json"}, None)
        if status != 200:
            raise ProviderAway(f"status {status}")
        return response

    async def _ask(self, method: str, url: str, headers: Mapping[str, str], body: bytes | None) -> tuple[int, bytes]:
        try:
            reply = await self._http.send(
                method, url, headers=headers, body=body, deadline_secs=DEADLINE_SECS, max_bytes=MAX_BYTES
            )
        except (Refused, Unreachable) as failure:
            raise ProviderAway(str(failure)) from None
        if not reply.complete:
            raise ProviderAway("its response is cut short, or too long")
        return reply.status, reply.body


def _read(response: bytes, shape: type[T]) -> T:
    try:
        return msgspec.json.decode(response, type=shape)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise ProviderAway("its response is not what OpenID Connect says") from None


def _authenticated_at(claims: Mapping[str, Any], attempt: Attempt) -> datetime:
    """Return when the provider last saw a credential of the person; long ago if it does not say.

    Raises `LoginRefused` when it should have asked for one in this attempt, and has not.
    """
    told = claims.get("auth_time")
    at = EPOCH
    if isinstance(told, int | float) and 0 < told < 2**33:
        at = datetime.fromtimestamp(told, UTC)
    if attempt.again and at < attempt.began_at - timedelta(seconds=LEEWAY_SECS):
        raise LoginRefused("token: auth_time")
    return at


def _short(value: object) -> str | None:
    return value if isinstance(value, str) and 0 < len(value) <= MAX_SUB and value.isprintable() else None
