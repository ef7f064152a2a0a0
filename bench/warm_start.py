"""Seconds to a task's first line, everything cached: podstrap's bootstrap beside the same steps by hand.

One server, one repository, one requirement (six==1.16.0). Both alternate in one run:

- by hand: `git clone` of the repository, `uv venv`, `uv pip install --offline`, `python main.py`, as a shell script
- podstrap: the exec of `podstrap bootstrap` as a Job's pod would run it, its five ClearML requests included

Raw samples are saved in bench/results/warm_start.json; the last line of the output is the result as JSON.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.first_line import make, save
from tests import support

ROUNDS = int(os.environ.get("ROUNDS", "15"))
REQUIREMENT = "six==1.16.0"


def main() -> None:
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        server = support.Server(folder / "server")
        server.start()
        try:
            bench = make(folder, server, REQUIREMENT)
            bench.by_hand(folder / "first-hand", folder / "hand-cache", offline=False)  # both fill their caches
            bench.by_podstrap(folder / "first-work", folder / "cache", REQUIREMENT)
            ours, theirs = [], []
            for number in range(ROUNDS):
                theirs.append(bench.by_hand(folder / f"hand-{number}", folder / "hand-cache", offline=True))
                ours.append(bench.by_podstrap(folder / f"work-{number}", folder / "cache", REQUIREMENT))
        finally:
            server.stop()
    save("warm_start", {"podstrap": ours, "by_hand": theirs})
    line = {
        "warm_first_line_s": round(statistics.median(ours), 3),
        "warm_by_hand_s": round(statistics.median(theirs), 3),
        "ratio": round(statistics.median(o / t for o, t in zip(ours, theirs, strict=True)), 2),
        "rounds": ROUNDS,
    }
    print(json.dumps(line))


if __name__ == "__main__":
    main()
