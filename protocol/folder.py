"""Where podstrap lies in a task's image, baked into it or brought into it: one place that programs know by heart."""

from __future__ import annotations

from pathlib import Path

HOME = Path("/opt/podstrap")
"""Programs, interpreter, libraries. Read-only in a pod."""
PROGRAM = HOME / "bin" / "podstrap"
TOOLS = HOME / "tools"
"""git, git-lfs, ssh, sh for images that lack them; a baked folder has ssh alone."""
CERTIFICATES = HOME / "certificates.pem"
COPIED = ".copied.json"
"""In the folder's root when an init container copied it: seconds, bytes and files of the copy, as JSON."""
