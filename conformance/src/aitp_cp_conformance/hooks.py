"""URLs for inactive webhooks, to which nothing is sent."""

from aitp_cp_conformance.deployment import Deployment

DEFAULT_HOST = "example.com"


async def hook_host(cp: Deployment) -> str:
    """Return a host that the deployment accepts: the one of --webhook-host, or example.com."""
    host = cp.options.webhook_host
    if host is not None:
        return host
    response = await cp.admin.post("/api/webhooks", {"url": f"https://{DEFAULT_HOST}/{cp.run}", "active": False})
    if b'"URL_NOT_ALLOWED"' in response.body or b'"HOST_UNRESOLVED"' in response.body:
        cp.skip(f"https://{DEFAULT_HOST}/ is refused here: name an allowed host with --webhook-host")
    return DEFAULT_HOST


async def hook_url(cp: Deployment) -> str:
    """Return a unique URL."""
    return f"https://{await cp.shared(hook_host)}/{cp.name('webhook')}"
