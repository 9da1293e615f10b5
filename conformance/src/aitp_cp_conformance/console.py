"""Contract, section 22: the console takes forms of its own pages, and its sessions stay apart from the API."""

from http.cookies import SimpleCookie
from urllib.parse import urlencode

from aitp_cp_conformance import expect
from aitp_cp_conformance.check import check
from aitp_cp_conformance.deployment import Deployment

LOGIN, ME = "/console/login", "/console/me"
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
OWN_PAGE = {**FORM, "Sec-Fetch-Site": "same-origin"}
HERE = 200


async def require_console(cp: Deployment) -> None:
    response = await cp.public.get(LOGIN)
    if response.status != HERE:
        cp.skip(f"the console is switched off, or answers under another host: {response.status}")


@check("22", "the console takes no form that another site, or no page at all, has sent", extension=True)
async def forged_forms(cp: Deployment) -> None:
    await require_console(cp)
    for headers in ({}, {"Sec-Fetch-Site": "cross-site"}, {"Origin": f"https://{cp.run}.example"}):
        for path in (LOGIN, "/console/logout", "/console/preferences"):
            expect.status(await cp.public.post(path, b"key=none", {**FORM, **headers}), 403)


@check("22", "a session opens nothing under `/api/`, a key nothing under `/console/`; a logout ends it", extension=True)
async def two_doors(cp: Deployment) -> None:
    await require_console(cp)
    body = urlencode({"key": cp.options.api_key or ""}).encode()
    response = await cp.public.post(LOGIN, body, OWN_PAGE)
    if response.status != 303:
        cp.skip("the key opens no console from here: it needs dashboard:read, and https unless it is this machine")
    cookies = SimpleCookie(response.headers["set-cookie"])
    session = {"Cookie": "; ".join(f"{name}={morsel.value}" for name, morsel in cookies.items())}
    expect.that(all(morsel["httponly"] for morsel in cookies.values()), "a script can read the cookie of a session")
    expect.status(await cp.public.get(ME, session), 200)
    expect.error(await cp.public.get("/api/whoami", session), 401, "INVALID_API_KEY")
    expect.status(await cp.admin.get(ME), 303)
    expect.status(await cp.public.post("/console/logout", b"a=b", {**OWN_PAGE, **session}), 303)
    expect.status(await cp.public.get(ME, session), 303)
