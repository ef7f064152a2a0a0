"""Which certificates to trust in an image that may be anybody's: what the user names, the image's, else our own.

Every distribution keeps its bundle elsewhere and tells only its own programs where (the same list in Go's crypto/x509,
root_linux.go). Programs that podstrap brings into an image know Debian's place alone, so they are told.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from protocol.folder import CERTIFICATES

USUAL = Path("/etc/ssl/certs/ca-certificates.crt")
"""Debian, Ubuntu, Alpine, Arch: where our programs look by themselves."""
OTHERS = tuple(
    map(
        Path,
        (
            "/etc/pki/tls/certs/ca-bundle.crt",  # Fedora, RHEL 6
            "/etc/ssl/ca-bundle.pem",  # openSUSE
            "/etc/pki/tls/cacert.pem",  # OpenELEC
            "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",  # RHEL 7 and newer
            "/etc/ssl/cert.pem",  # Alpine
        ),
    )
)
VARIABLES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "GIT_SSL_CAINFO", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE")
"""By which a user names certificates."""


def bundle(environ: Mapping[str, str], root: Path = Path("/")) -> Path | None:
    """What programs of ours must be told; None when the user names certificates, or they find the image's themselves.

    `root` is where the image lies, for tests.
    """
    if any(environ.get(name) for name in VARIABLES) or _there(USUAL, root):
        return None
    return next((one for one in (*OTHERS, CERTIFICATES) if _there(one, root)), None)


def _there(file: Path, root: Path) -> bool:
    try:
        return (root / file.relative_to("/")).stat().st_size > 0
    except OSError:
        return False
