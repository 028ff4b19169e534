"""One request over HTTP(S), told apart: what may be another answer next time, and what never will.

`opened` follows redirects, and to http and https alone; `chunks` notices a body that ends too early; `patiently` tries
again after waits that double. TemporaryError and RefusedError carry the reason in words and never reach a user bare.
"""

from __future__ import annotations

import errno
import functools
import http.client
import re
import socket
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from email.message import Message
from typing import Any, TypeVar
from urllib.parse import quote, urlsplit, urlunsplit

from pipeline.progress import say

TIMEOUT_SECONDS = 30.0  # until a connection stands, and between two of its bytes
ATTEMPTS = 6  # in a row that bring nothing new
FIRST_WAIT, LONGEST_WAIT = 1.0, 60.0  # seconds; doubled after each failure; a server's Retry-After counts too
CHUNK = 1 << 18  # bytes
AGAIN = {408, 425, 429, 500, 502, 503, 504}  # answers that may be another one next time
HEADERS = {"User-Agent": "molar/0.1", "Accept-Encoding": "identity"}  # a .gz stays the .gz that it is

T = TypeVar("T")


class RefusedError(Exception):
    """No however often one asks; the message is the reason. `status`: the server's answer, if it gave one."""

    def __init__(self, reason: str, status: int | None = None, headers: Message | None = None) -> None:
        super().__init__(reason)
        self.status = status
        self.headers = headers or Message()


class TemporaryError(Exception):
    """Worth another attempt; the message is the reason. `unreachable`: no server was met at all."""

    def __init__(self, reason: str, *, unreachable: bool = False, wait: float | None = None) -> None:
        super().__init__(reason)
        self.unreachable = unreachable
        self.wait = wait  # seconds that the server asks for


def patiently(
    attempt: Callable[[], T],
    name: str,
    *,
    attempts: int | None = None,
    reached: Callable[[], int] = lambda: 0,
    tell: Callable[[str], None] = say,
) -> T:
    """What `attempt` returns, once it does not raise TemporaryError; `reached` counts the bytes that are there.

    Raises the last TemporaryError after `attempts` (None: ATTEMPTS) in a row without a gain, or at once where no server
    was ever met. RefusedError passes.
    """
    failures, first = 0, reached()
    most = first
    while True:
        try:
            return attempt()
        except TemporaryError as error:
            if reached() > most:
                failures, most = 0, reached()
            failures += 1
            if failures >= (attempts or ATTEMPTS) or (error.unreachable and most == first):
                raise
            wait = min(LONGEST_WAIT, max(error.wait or 0.0, FIRST_WAIT * 2 ** (failures - 1)))
            tell(f"{name}: {error}, again in {wait:.0f} s")
            time.sleep(wait)


def opened(url: str, headers: dict[str, str] | None = None) -> http.client.HTTPResponse:
    """The answer to a GET, its body unread; redirects followed. Raises RefusedError or TemporaryError."""
    try:
        request = urllib.request.Request(_ascii(url), headers=HEADERS | (headers or {}))
        return _opener().open(request, timeout=TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        with error:
            reason = f"the server answered {error.code} {error.reason}".strip()
            if error.code in AGAIN:
                raise TemporaryError(reason, wait=_seconds(error.headers.get("Retry-After"))) from None
            raise RefusedError(reason, error.code, error.headers) from None
    except urllib.error.URLError as error:
        raise _why(error.reason) from None
    except ValueError:  # http.client's InvalidURL is one
        raise RefusedError("not a valid url") from None
    except (OSError, http.client.HTTPException) as error:
        raise _why(error) from None


def chunks(response: http.client.HTTPResponse) -> Iterator[bytes]:
    """The body as it arrives. Raises TemporaryError if it stops before the length that the server announced."""
    left = response.length  # None: not announced
    while left is None or left > 0:
        try:
            chunk = response.read1(CHUNK if left is None else min(CHUNK, left))
        except (OSError, http.client.HTTPException) as error:
            raise _why(error) from None
        if not chunk:
            if left:
                raise TemporaryError(f"the connection ended {left:,} bytes too early")
            return
        if left is not None:
            left -= len(chunk)
        yield chunk


def _seconds(retry_after: str | None) -> float | None:
    """A Retry-After in seconds; the form that names a date is not worth the parsing."""
    return float(retry_after) if retry_after and re.fullmatch(r"\d{1,6}", retry_after) else None


def _ascii(url: str) -> str:
    """The url with blanks and letters beyond ASCII escaped. Raises ValueError for what is no http(s) url."""
    parts = urlsplit(url.strip())
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(url)
    kept = "%/:=&?~+!$,;'@()*[]"
    return urlunsplit(parts._replace(path=quote(parts.path, kept), query=quote(parts.query, kept), fragment=""))


@functools.cache
def _opener() -> urllib.request.OpenerDirector:
    """HTTP(S) alone: the default opener would follow a url to local files and to FTP as well."""
    director = urllib.request.OpenerDirector()
    handlers: tuple[type[urllib.request.BaseHandler], ...] = (
        urllib.request.ProxyHandler,
        urllib.request.HTTPHandler,
        urllib.request.HTTPSHandler,
        urllib.request.HTTPDefaultErrorHandler,
        urllib.request.HTTPRedirectHandler,
        urllib.request.HTTPErrorProcessor,
        urllib.request.UnknownHandler,
    )
    for handler in handlers:
        director.add_handler(handler())
    return director


def _why(error: Any) -> RefusedError | TemporaryError:
    """What stands between us and the server, in words."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return RefusedError(f"the server's certificate is not valid ({error.verify_message})")
    if isinstance(error, str):
        return RefusedError(error)  # `unknown url type: ftp`, after a redirect
    if isinstance(error, socket.gaierror):
        return TemporaryError("host name not found", unreachable=True)
    if isinstance(error, TimeoutError):
        return TemporaryError(f"silent for {TIMEOUT_SECONDS:g} s")
    lost = isinstance(error, OSError) and error.errno in (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN)
    words = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return TemporaryError(words[0].lower() + words[1:], unreachable=lost)
