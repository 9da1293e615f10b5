"""URLs for webhooks that nothing is ever sent to, because the webhooks are inactive."""

from aitp_cp_conformance.deployment import Deployment

DEFAULT_HOST = "example.com"


async def hook_host(cp: Deployment) -> str:
    """A host that the deployment takes: the operator's word, or else one that every name server knows."""
    host = cp.options.webhook_host
    if host is not None:
        return host
    answer = await cp.admin.post("/api/webhooks", {"url": f"https://{DEFAULT_HOST}/{cp.run}", "active": False})
    if b'"URL_NOT_ALLOWED"' in answer.body or b'"HOST_UNRESOLVED"' in answer.body:
        cp.skip(f"https://{DEFAULT_HOST}/ is refused here: name a host that may be sent to with --webhook-host")
    return DEFAULT_HOST


async def hook_url(cp: Deployment) -> str:
    """A URL that nobody else subscribes."""
    return f"https://{await cp.shared(hook_host)}/{cp.name('webhook')}"
