"""Where everything of ours lies in a task's container, whether its image has it or it was brought there.

Baked into an image, mounted from an image of its own, or copied by an init container: the same folder at the same
path, since its programs name their loader and libraries by it.
"""

from __future__ import annotations

FOLDER = "/opt/podstrap"
PROGRAM = f"{FOLDER}/bin/podstrap"
COPIED = ".copied.json"
"""In a folder that `podstrap copy` made, written last: `seconds` and `bytes` of the copy, JSON."""
