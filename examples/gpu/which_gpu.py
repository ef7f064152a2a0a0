"""The GPUs that this task was given. It needs no package: the driver's own program tells."""

import shutil
import subprocess
import sys

if shutil.which("nvidia-smi") is None:
    sys.exit(
        "no nvidia-smi here: the pod was given no GPU (resources.limits of the queue), or its runtime mounts no driver"
    )
sys.exit(subprocess.run(["nvidia-smi", "-L"]).returncode)
