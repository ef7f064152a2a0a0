"""From an installer's many lines to the one sentence that a person can act on.

The failures of the network are told apart here, since they alone are worth another try.
"""

from __future__ import annotations

import re

from bootstrap.commands import CommandFailed
from bootstrap.environment import index
from bootstrap.errors import EnvironmentBuildError

_DECORATION = re.compile(r"^[\s×╰─▶│├├─•✗]+|\x1b\[[0-9;]*m")

_TROUBLE = re.compile(
    r"dns error|name or service not known|temporary failure in name resolution|nodename nor servname"
    r"|connection (?:refused|reset|aborted|timed out|closed)|connect ?timeout|read timed out|operation timed out"
    r"|client error \(connect\)|network is unreachable|no route to host|newconnectionerror|protocolerror"
    r"|remotedisconnected|incompleteread|connection broken|tls handshake|unexpected eof|end of file before"
    r"|http status server error|\b50[0234] (?:server error|bad gateway|service|gateway|internal)"
    r"|429 (?:client|too many)|too many 50\d error responses"
    r"|error decoding response body|request or response body error|failed to download.*distribution"
    r"|error sending request",
    re.I,
)
_NOT_TROUBLE = re.compile(r"network connectivity is disabled|\b40[1346] |unauthori[sz]ed|forbidden|certificate", re.I)
_ADDRESS = re.compile(r"https?://[^\s`'\"<>()]+")


def is_trouble(output: str) -> bool:
    """Whether an installer failed because of the network: another try may help."""
    return bool(_TROUBLE.search(output)) and not _NOT_TROUBLE.search(output)


def place(output: str) -> str:
    """`package X at index Y` out of an installer's words, as far as they tell; without credentials."""
    if found := re.search(r"link for ([A-Za-z0-9._-]+)|/simple/([A-Za-z0-9._-]+)/?", output):
        name = found[1] or found[2]
    elif found := re.search(r"Failed to (?:download|fetch)[: ]+`?([A-Za-z0-9._-]+==[^`\s]+)", output):
        name = found[1]
    else:
        name = ""
    addresses = [index.without_credentials(address) for address in _ADDRESS.findall(output)]
    hosts = re.search(r"host='?([^',)]+)'?, port=(\d+)", output)
    address = addresses[-1].rstrip(".,/:") if addresses else f"{hosts[1]}:{hosts[2]}" if hosts else ""
    return " at ".join(part for part in (f"package {name}" if name else "", address) if part)


def error(what: str, failed: CommandFailed, words: str) -> EnvironmentBuildError:
    """Why an installer failed; `words` is all that it said, the log included."""
    trouble = is_trouble(words)
    where = place(words)
    if trouble:
        return EnvironmentBuildError(
            f"{what}: the network failed{f' ({where})' if where else ''}: {_summary(failed)}",
            hint="is the index reachable from this pod (UV_DEFAULT_INDEX, PIP_INDEX_URL, HTTPS_PROXY)?",
            last_lines=failed.last_lines,
            trouble=True,
        )
    at = f" ({where})" if where and re.search(r"\b40[13]\b", words) else ""
    return EnvironmentBuildError(
        f"{what}{at}: {_summary(failed)}",
        hint="is the name and version right, and does the index (UV_DEFAULT_INDEX, PIP_INDEX_URL) have it?",
        last_lines=failed.last_lines,
    )


def _summary(failed: CommandFailed) -> str:
    """The sentence that says why, out of an installer's many lines."""
    lines = [_DECORATION.sub("", line).strip() for line in failed.last_lines]
    start = next(
        (n for n, line in enumerate(lines) if line.startswith(("ERROR", "error", "No solution", "Because"))), 0
    )
    chosen = [line for line in lines[start : start + 6] if line and not line.startswith("[notice]")]
    return index.without_credentials(" ".join(chosen)[:400]) or str(failed)
