"""What a task's own code sees in a pod: printed as one line of JSON, for the tests that run it."""

import getpass
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import alpha

home = Path(os.environ["HOME"])
(home / ".cache").mkdir(exist_ok=True)
subprocess.run([sys.executable, "-c", "import ctypes, sqlite3, ssl, bz2, lzma, zlib, readline, uuid"], check=True)
print(
    "SEEN "
    + json.dumps(
        {
            "alpha": alpha.VERSION,
            "home": sorted(one.name for one in home.iterdir()),
            "base": sys.base_prefix,
            "uid": os.getuid(),
            "name": getpass.getuser(),
            "git": shutil.which("git"),
            "ours": sorted(name for name, value in os.environ.items() if "/opt/podstrap" in value),
            "large": len(Path("model.bin").read_bytes()),
            "added": os.environ.get("ADDED"),
            "pip": subprocess.run([sys.executable, "-m", "pip", "--version"], capture_output=True).returncode,
        }
    )
)
