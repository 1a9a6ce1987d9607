"""Asking a running resolver through its admin port: the only door to HTTP."""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlencode

from meshdns.init.errors import MissingError
from meshdns.resolver.serve.address import SocketAddress

TIMEOUT_S: Final = 10.0
"""Longer than the resolver's own deadline of 4 s for a name that it has to ask for."""


def ask(admin: SocketAddress, path: str, parameters: Mapping[str, str] | None = None) -> bytes:
    """Return the body of the reply to GET `path`; MissingError when nobody answers there."""
    url = f"http://{admin}{path}?{urlencode(parameters or {})}"
    # A proxy from the environment must not see questions to this machine's own port.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=TIMEOUT_S) as reply:
            body: bytes = reply.read()
            return body
    except urllib.error.HTTPError as error:
        with error:
            text = error.read(500).decode(errors="replace").strip()
        raise MissingError(f"cannot ask {admin}{path}: {error.code} {error.reason}: {text}") from error
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise _nobody_there(admin, getattr(error, "reason", error)) from error


def ask_json(admin: SocketAddress, path: str, parameters: Mapping[str, str] | None = None) -> Any:  # noqa: ANN401 - JSON
    """Return the reply to GET `path`, decoded."""
    body = ask(admin, path, parameters)
    try:
        return json.loads(body)
    except ValueError as error:
        raise _nobody_there(admin, "the reply is not JSON") from error


def _nobody_there(admin: SocketAddress, cause: object) -> MissingError:
    if isinstance(cause, OSError) and cause.strerror:
        cause = cause.strerror.lower()
    return MissingError(
        f"cannot ask the resolver at {admin}: {cause}: is `meshdns resolver run` running here? "
        "give --admin where its admin port is another"
    )
