"""Who may ask the viewer: the page that it served itself, and no other.

Its address holds a token that is new at each start; whoever does not know it gets 403, for any path. So does a request
under another name of this machine, as a page makes it that has its own name lead here (DNS rebinding), and one that
another page sends. What is answered may be shown in no other page, kept in no cache, and may load nothing from outside.
"""

import secrets

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADERS = {
    # niivue holds its font in its own code, as data: addresses.
    "Content-Security-Policy": (
        "default-src 'self'; connect-src 'self' data:; img-src 'self' data: blob:; frame-ancestors 'none'; "
        "base-uri 'none'; form-action 'none'"
    ),
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


def guarded(app: ASGIApp, token: str, port: int) -> ASGIApp:
    """`app` below /TOKEN/ of 127.0.0.1:port, or localhost:port, and nothing else."""
    hosts = {f"127.0.0.1:{port}", f"localhost:{port}"}

    async def guard(scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        if not _is_own(Headers(scope=scope), hosts) or (path := _below(scope["path"], token)) is None:
            await PlainTextResponse("403: not this page's address", 403)(scope, receive, send_with_headers)
        else:
            await app({**scope, "path": path, "raw_path": path.encode()}, receive, send_with_headers)

    return guard


def _is_own(headers: Headers, hosts: set[str]) -> bool:
    host, origin, site = (headers.get(name) for name in ("host", "origin", "sec-fetch-site"))
    return host in hosts and origin in (None, f"http://{host}") and site in (None, "same-origin", "none")


def _below(path: str, token: str) -> str | None:
    """The path behind the token; None without it."""
    _, first, *rest = [*path.split("/"), ""]
    is_right = secrets.compare_digest(first.encode(), token.encode())
    return "/" + "/".join(rest[:-1]) if is_right and len(rest) > 1 else None
