"""Seconds to a task's first line, cold and warm: podstrap beside clearml-agent (pip and uv mode) and the steps by hand.

One run, one server (the embedded one), one task (six==1.16.0); the ways alternate in every round, each with its caches
in the same state. Cold: no venv, store, mirror, uv or pip cache. Warm: all of them. The peer's best mode counts.

Then a task of thirty packages (numpy, pandas, scikit-learn, clearml, ...) warm, beside the one-package task, and the
bytes that its environment takes on disk after one and after many tasks. ROUNDS=, WARM_ROUNDS=, PEER=0 leaves the peer
out. Raw samples: bench/results/cold_start.json; the last line of the output is the result as JSON.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.first_line import MODES, Bench, Counting, Failed, disk_bytes, make, save
from tests import support

ROUNDS = int(os.environ.get("ROUNDS", "3"))
WARM_ROUNDS = int(os.environ.get("WARM_ROUNDS", "9"))
PEER = os.environ.get("PEER", "1") != "0"
ONE = "six==1.16.0"
THIRTY = """numpy==2.2.6
pandas==2.2.3
scikit-learn==1.6.1
scipy==1.15.3
clearml==2.0.2
matplotlib==3.10.3
pillow==11.2.1
requests==2.32.3
PyYAML==6.0.2
tqdm==4.67.1
joblib==1.5.1
threadpoolctl==3.6.0
python-dateutil==2.9.0.post0
pytz==2025.2
six==1.16.0
packaging==24.2
jinja2==3.1.6
MarkupSafe==3.0.2
click==8.2.1
rich==14.0.0
pydantic==2.11.5
typing_extensions==4.13.2
attrs==25.3.0
jsonschema==4.23.0
psutil==7.0.0
pyparsing==3.2.3
cycler==0.12.1
kiwisolver==1.4.8
fonttools==4.58.1
contourpy==1.3.2
"""

Samples = dict[str, list[float]]


def cold(bench: Bench, samples: Samples, told: dict[str, str]) -> None:
    """Every way with empty caches, ROUNDS times."""
    for number in range(ROUNDS):
        at = bench.folder / f"cold-{number}"
        samples["cold_by_hand"].append(bench.by_hand(at / "hand", at / "hand-cache", offline=False))
        samples["cold_podstrap"].append(bench.by_podstrap(at / "work", at / "cache", ONE))
        for mode in MODES if PEER else ():
            _peer(bench, at / f"peer-{mode}", mode, samples["cold_peer_" + mode], told, "cold")


def warm(bench: Bench, samples: Samples, told: dict[str, str]) -> None:
    """Every way with all its caches filled by the last cold round, WARM_ROUNDS times (the peer ROUNDS times)."""
    last = bench.folder / f"cold-{ROUNDS - 1}"
    for number in range(WARM_ROUNDS):
        at = bench.folder / f"warm-{number}"
        samples["warm_by_hand"].append(bench.by_hand(at / "hand", last / "hand-cache", offline=True))
        samples["warm_podstrap"].append(bench.by_podstrap(at / "work", last / "cache", ONE))
        for mode in MODES if PEER and number < ROUNDS else ():
            _peer(bench, last / f"peer-{mode}", mode, samples["warm_peer_" + mode], told, "warm")


def _peer(bench: Bench, home: Path, mode: str, into: list[float], told: dict[str, str], state: str) -> None:
    key = f"{state} {mode}"
    if key in told:
        return
    try:
        into.append(bench.by_agent(home, mode, ONE))
    except Failed as failed:
        told[key] = str(failed)[-1500:]
        print(f"the peer, {key}: failed, see the results file", file=sys.stderr)


def requests_before_the_first_line(bench: Bench) -> int:
    """ClearML requests of one warm start, counted by a proxy."""
    proxy = Counting(bench.environ["CLEARML_API_HOST"])
    begun = time.time()
    cache = bench.folder / f"cold-{ROUNDS - 1}" / "cache"
    seconds = bench.by_podstrap(bench.folder / "counted", cache, ONE, CLEARML_API_HOST=proxy.address)
    proxy.shutdown()
    return sum(1 for at, _ in proxy.seen if at < begun + seconds)


def many_packages(bench: Bench, samples: Samples) -> dict[str, int]:
    """The one-package and the thirty-package task in turn, warm; bytes of the environments after one and many tasks."""
    cache = bench.folder / f"cold-{ROUNDS - 1}" / "cache"
    samples["many_cold"].append(bench.by_podstrap(bench.folder / "many", cache, THIRTY))
    before = disk_bytes(cache / "environments")
    for number in range(WARM_ROUNDS):
        samples["many_warm"].append(bench.by_podstrap(bench.folder / f"many-{number}", cache, THIRTY))
        samples["one_warm"].append(bench.by_podstrap(bench.folder / f"one-{number}", cache, ONE))
    return {
        "environment_bytes_1_task": before,
        f"environment_bytes_{WARM_ROUNDS + 1}_tasks": disk_bytes(cache / "environments"),
    }


def _by_mode(median: dict[str, float], state: str) -> dict[str, float | None]:
    """The peer's modes, the failed ones as None."""
    return {
        mode: round(median[f"{state}_peer_{mode}"], 3) if f"{state}_peer_{mode}" in median else None for mode in MODES
    }


def main() -> None:
    keys = ["by_hand", "podstrap", *(f"peer_{mode}" for mode in MODES)]
    samples: Samples = {f"{state}_{key}": [] for state in ("cold", "warm") for key in keys}
    samples.update({"many_cold": [], "many_warm": [], "one_warm": []})
    told: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as made:
        server = support.Server(Path(made) / "server")
        server.start()
        try:
            bench = make(Path(made), server, ONE)
            cold(bench, samples, told)
            warm(bench, samples, told)
            requests = requests_before_the_first_line(bench)
            disk = many_packages(bench, samples)
        finally:
            server.stop()
    save("cold_start", {"samples": samples, "failures": told})
    median = {key: statistics.median(values) for key, values in samples.items() if values}

    def best(state: str) -> float | None:
        modes = [median[key] for key in (f"{state}_peer_{mode}" for mode in MODES) if key in median]
        return round(min(modes), 3) if modes else None

    sys.stderr.flush()
    line = {
        "warm_first_line_s": round(median["warm_podstrap"], 3),
        "warm_by_hand_s": round(median["warm_by_hand"], 3),
        "warm_peer_s": best("warm"),
        "cold_first_line_s": round(median["cold_podstrap"], 3),
        "cold_by_hand_s": round(median["cold_by_hand"], 3),
        "cold_peer_s": best("cold"),
        "sequential_requests": requests,
        "warm_30_packages_s": round(median["many_warm"], 3),
        "warm_1_package_s": round(median["one_warm"], 3),
        **{f"{state}_peer_s_by_mode": _by_mode(median, state) for state in ("cold", "warm")},
        **disk,
        "rounds": ROUNDS,
    }
    print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
