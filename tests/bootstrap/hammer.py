"""Many pods on one store at once, some killed at random: forks children that each prepare one of a few environments.

    hammer.py FOLDER WHEELS KEYS CHILDREN SEED

Exits 1 when a child that was not killed could not run its environment.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sys
import time
import traceback
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

from tests.bootstrap.environments import prepare, python


def child(number: int, folder: Path, wheels: Path, keys: int) -> int:
    try:
        os.setsid()
        version = f"{number % keys}.0"
        environment = prepare(f"alpha=={version}\nbeta", folder / str(number), wheels, cache=folder / "shared")
        assert python(environment, "import alpha, beta; print(alpha.VERSION)") == version
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def main() -> int:
    folder, wheels = Path(sys.argv[1]), Path(sys.argv[2])
    keys, children, chance = int(sys.argv[3]), int(sys.argv[4]), random.Random(int(sys.argv[5]))
    pids: dict[int, bool] = {}
    for number in range(children):
        pid = os.fork()
        if not pid:
            os._exit(child(number, folder, wheels, keys))
        pids[pid] = chance.random() < 0.5
    doomed = sorted(((chance.uniform(0.0, 4.0), pid) for pid, dies in pids.items() if dies))
    begun = time.monotonic()
    for at, pid in doomed:
        time.sleep(max(0.0, begun + at - time.monotonic()))
        for kill in (os.killpg, os.kill):
            with contextlib.suppress(ProcessLookupError):
                kill(pid, signal.SIGKILL)
    codes = {pid: os.waitpid(pid, 0)[1] for pid in pids}
    wrong = [pid for pid, status in codes.items() if status and not (pids[pid] and os.WIFSIGNALED(status))]
    print(f"{len(pids) - len(doomed)} survivors, {len(wrong)} failed, {time.monotonic() - begun:.1f} s")
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
