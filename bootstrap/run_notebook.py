"""Runs a notebook as a script, in the task's own Python: `python run_notebook.py NOTEBOOK [ARGUMENT …]`.

nbconvert writes the notebook's cells as a Python file (as under clearml-agent) and IPython runs that, because magics
(`%matplotlib inline`, `!ls`) are calls of IPython's; its exit code is the script's own. Every output is the process's
output. This file imports nothing of podstrap's: the task's Python does not have it. Python 3.6 can read it.
"""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path


def main(notebook: str, arguments: list) -> int:  # type: ignore[type-arg]
    """Convert and become the script."""
    script = Path(notebook).with_suffix(".py")
    if script.exists():  # the repository's own module of that name stays as it is
        script = script.with_name(script.stem + "_notebook.py")
    convert = ["-m", "nbconvert", "--log-level", "WARN", "--to", "python", "--output-dir", str(script.parent)]
    paths = os.pathsep.join(filter(None, (os.environ.get("JUPYTER_PATH"), templates())))
    environ = {**os.environ, "JUPYTER_PATH": paths}
    code = subprocess.call([sys.executable, *convert, "--output", script.stem, notebook], env=environ)
    if code:
        sys.stderr.write(f"podstrap: {notebook} could not be converted to a script (by nbconvert, see above)\n")
        return code
    ipython = [sys.executable, "-u", "-m", "IPython", "--colors=NoColor", "--no-banner", str(script), "--", *arguments]
    sys.stderr.flush()
    os.execv(sys.executable, ipython)  # noqa: S606
    return 1


def templates() -> str:
    """Where nbconvert's own data files are: below the prefix that it was installed into, which is not ours when the
    image's own nbconvert serves (system_site_packages)."""
    spec = importlib.util.find_spec("nbconvert")
    if not spec or not spec.origin:
        return ""
    return str(Path(spec.origin).parents[4] / "share" / "jupyter")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
