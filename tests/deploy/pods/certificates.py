"""A certificate authority of the test's own and one server certificate, by the openssl command."""

from __future__ import annotations

import ssl
import subprocess
from pathlib import Path


def server_context(directory: Path, address: str) -> tuple[ssl.SSLContext, bytes]:
    """TLS for a server at this IP address, and the authority's certificate that vouches for it."""
    key, crt = directory / "ca.key", directory / "ca.crt"
    server_key, server_crt = directory / "server.key", directory / "server.crt"
    _certificate(key, crt, "/CN=test authority", "basicConstraints=critical,CA:TRUE",
                 "keyUsage=critical,keyCertSign,cRLSign")  # fmt: skip
    _certificate(server_key, server_crt, "/CN=kubernetes", f"subjectAltName=IP:{address}",
                 "basicConstraints=critical,CA:FALSE", "extendedKeyUsage=serverAuth",
                 authority=(crt, key))  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(server_crt, server_key)
    return context, crt.read_bytes()


def _certificate(
    key: Path,
    certificate: Path,
    subject: str,
    *extensions: str,
    authority: tuple[Path, Path] | None = None,
) -> None:
    signed_by = ["-CA", str(authority[0]), "-CAkey", str(authority[1])] if authority else []
    added = [word for extension in extensions for word in ("-addext", extension)]
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
         "-nodes", "-days", "2", "-subj", subject, "-keyout", key, "-out", certificate,
         *added, *signed_by],
        check=True, capture_output=True, timeout=30,
    )  # fmt: skip
