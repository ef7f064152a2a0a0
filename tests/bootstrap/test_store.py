"""The shared store: never wrong, whoever writes at once, is killed, or has another clock, user or file system."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bootstrap.environment import care, seal
from bootstrap.environment.care import Limits
from bootstrap.environment.seal import SEAL, Entry, mark_of
from bootstrap.environment.store import BEGUN, BUILDING, LOCK, REQUESTS, USED, Store
from bootstrap.environment.tools import find_uv
from bootstrap.errors import EnvironmentBuildError
from tests.bootstrap.environments import prepare, python, wheel
from tests.support import REPOSITORY_ROOT

HERE = Path(__file__).parent
ROOT_ONLY = pytest.mark.skipif(os.getuid() != 0, reason="mounts and other users need root")


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheels")
    for number in range(10):
        wheel(folder, "alpha", f"{number}.0")
    wheel(folder, "beta")
    return folder


@pytest.fixture(scope="module")
def without_locks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    library = tmp_path_factory.mktemp("preload") / "no_locks.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", library, HERE / "no_locks.c"], check=True)
    return {"LD_PRELOAD": str(library)}


PUBLISH = """
import sys
from pathlib import Path
from bootstrap.environment.seal import Entry, mark_of
from bootstrap.environment.store import Store
store, size = Store(Path(sys.argv[1])), int(sys.argv[3])
with store.building() as made:
    below = 'lib/python3.11/site-packages'
    (made / below).mkdir(parents=True)
    (made / below / 'a.py').write_text('x' * size)
    mark = mark_of(made / below)
    store.publish(sys.argv[2], Entry(made, '3.11', '3.11.7', '/usr/bin/python3', below, 'a==1', mark, size_bytes=size))
"""


def entry(store: Store, name: str, size: int = 1000) -> Entry:
    """A small entry, published; not in use by this process."""
    words = [sys.executable, "-c", PUBLISH, str(store.folder), name * 40, str(size)]
    subprocess.run(words, check=True, cwd=REPOSITORY_ROOT)
    found = seal.read(store.folder / (name * 40))
    assert found is not None
    return found


def used(store: Store, one: Entry, days_ago: float) -> None:
    at = time.time() - days_ago * 86400
    os.utime(store.folder / USED / one.path.name, (at, at))


def test_the_least_recently_used_goes_first_and_never_what_is_in_use(tmp_path) -> None:
    store = Store(tmp_path / "environments")
    a, b, c = entry(store, "a"), entry(store, "b"), entry(store, "c")
    used(store, a, 3), used(store, b, 2), used(store, c, 1)
    holder = subprocess.Popen(
        [sys.executable, "-c", "import sys; from pathlib import Path; from bootstrap.environment.store import Store\n"
         "assert Store(Path(sys.argv[1])).find('a' * 40); print('in use', flush=True); sys.stdin.read()",
         str(store.folder)],
        cwd=REPOSITORY_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert holder.stdout and holder.stdin and holder.stdout.readline() == b"in use\n"
    used(store, a, 3)
    assert [one.in_use for one in care.entries(store)] == [True, False, False]
    assert care.prune(store, Limits(size_bytes=2000)) == 1000
    assert [one.entry.path.name[0] for one in care.entries(store)] == ["a", "c"]
    care.prune(store, Limits(age_seconds=0.5 * 86400))
    assert [one.entry.path.name[0] for one in care.entries(store)] == ["a"]
    holder.stdin.close()
    holder.wait()
    assert care.prune(store, Limits(age_seconds=86400)) == 1000
    assert not care.entries(store)


def test_where_locks_fail_only_what_is_long_unused_goes(tmp_path, without_locks) -> None:
    store = Store(tmp_path / "environments")
    a, b = entry(store, "a"), entry(store, "b")
    used(store, a, 20), used(store, b, 40)
    code = (
        "import sys; from pathlib import Path; from bootstrap.environment.store import Store\n"
        "from bootstrap.environment.care import *; print(prune(Store(Path(sys.argv[1])), Limits(age_seconds=86400)))"
    )
    subprocess.run(
        [sys.executable, "-c", code, store.folder],
        env={**os.environ, **without_locks}, cwd=REPOSITORY_ROOT, check=True,
    )  # fmt: skip
    assert [one.entry.path.name[0] for one in care.entries(store)] == ["a"]


def test_a_changed_or_missing_file_is_found_by_verify(tmp_path, wheels) -> None:
    (tmp_path / "index").mkdir()
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", tmp_path / "index", "six==1.16.0"], check=True
    )
    environment = prepare("six==1.16.0", tmp_path, tmp_path / "index")
    store = Store(tmp_path / "cache" / "environments")
    assert care.verify(store) == {}
    six = store.folder / environment.key / "venv" / "lib" / "python3.11" / "site-packages" / "six.py"
    six = next((store.folder / environment.key).glob("venv/lib/*/site-packages/six.py"))
    text = six.read_text()
    six.unlink()  # it may be a hard link into uv's cache
    six.write_text(text + "# changed\n")
    assert care.verify(store) == {environment.key: ["six.py: changed"]}


def test_what_a_killed_builder_left_is_removed_and_a_living_builders_is_not(tmp_path) -> None:
    store = Store(tmp_path / "environments")
    code = (
        "import sys; from pathlib import Path; from bootstrap.environment.store import Store\n"
        "with Store(Path(sys.argv[1])).building() as made:\n"
        "    (made / 'half').write_text('x'); print(made.name, flush=True); sys.stdin.read()"
    )
    words = [sys.executable, "-c", code, str(store.folder)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    dead, living = (subprocess.Popen(words, cwd=REPOSITORY_ROOT, **pipes) for _ in range(2))
    assert dead.stdout and living.stdout and living.stdin
    left, kept = dead.stdout.readline().decode().strip(), living.stdout.readline().decode().strip()
    dead.kill()
    dead.wait()
    assert (store.folder / left / "half").exists()
    store.clean()
    assert not (store.folder / left).exists() and (store.folder / kept / "half").exists()
    living.stdin.close()
    living.wait()
    assert not (store.folder / kept).exists()


def test_a_clock_ahead_or_behind_takes_nothing_away(tmp_path, wheels) -> None:
    first = prepare("alpha==1.0", tmp_path, wheels)
    loose = prepare("alpha", tmp_path, wheels)
    store = Store(tmp_path / "cache" / "environments")
    ahead = time.time() + 30 * 86400
    for file in (*(store.folder / USED).iterdir(), *(store.folder / REQUESTS).iterdir()):
        os.utime(file, (ahead, ahead))
    for request in (store.folder / REQUESTS).glob("*.json"):
        known = store.resolution(request.stem)
        assert known is not None
        store.remember(request.stem, type(known)(**{**vars(known), "resolved_at": ahead}))
    (store.folder / f"{BUILDING}1-1").mkdir()
    (store.folder / f"{BEGUN}1-1").mkdir()
    os.utime(store.folder / f"{BUILDING}1-1", (ahead, ahead))
    care.prune(store, Limits(age_seconds=86400))
    assert (store.folder / f"{BUILDING}1-1").exists(), "one that has no lock yet and no age is left alone"
    assert (store.folder / f"{BEGUN}1-1").exists()
    assert prepare("alpha==1.0", tmp_path, wheels).from_cache and prepare("alpha", tmp_path, wheels).from_cache
    assert first.key != loose.key
    old = time.time() - 86400
    for left in (f"{BUILDING}1-1", f"{BEGUN}1-1"):
        os.utime(store.folder / left, (old, old))
    store.clean()
    assert not list(store.folder.glob(f"{BUILDING}*")) and not list(store.folder.glob(f"{BEGUN}*"))


AS_OTHER = """
import os, sys
from pathlib import Path
sys.path.insert(0, sys.argv[4])
os.umask(int(sys.argv[6], 8))
os.setgroups([]); os.setgid(int(sys.argv[5])); os.setuid(int(sys.argv[5]))
from tests.bootstrap.environments import prepare, python
environment = prepare(sys.argv[3], Path(sys.argv[1]), Path(sys.argv[2]), cache=Path(sys.argv[7]))
print(environment.from_cache, python(environment, "import alpha; print(alpha.VERSION)"))
"""


@ROOT_ONLY
def test_pods_of_other_users_and_umasks_share_one_cache(wheels) -> None:
    folder = Path(tempfile.mkdtemp(dir="/var/tmp"))  # pytest's own folders are closed to others
    try:
        folder.chmod(0o755)
        cache = folder / "cache"
        cache.mkdir()
        cache.chmod(0o777)
        subprocess.run(["cp", "-r", wheels, folder / "wheels"], check=True)
        subprocess.run(["chmod", "-R", "a+rX", folder / "wheels"], check=True)
        (folder / "bin").mkdir()
        shutil.copy(find_uv(), folder / "bin" / "uv")

        def run(text: str, uid: int, umask: str) -> str:
            mine = folder / f"{uid}-{umask}-{len(text)}"
            mine.mkdir(exist_ok=True)
            os.chown(mine, uid, uid)
            words = [Path("/usr/bin/python3"), "-c", AS_OTHER, mine, folder / "wheels", text]
            words += [REPOSITORY_ROOT, uid, umask, cache]
            environ = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
            environ["PATH"] = f"{folder / 'bin'}:/usr/bin:/bin"
            done = subprocess.run([str(word) for word in words], capture_output=True, text=True, env=environ)
            assert done.returncode == 0, done.stderr
            return done.stdout.strip()

        if subprocess.run(["setpriv", "--reuid", "4711", "ls", REPOSITORY_ROOT], capture_output=True).returncode:
            pytest.skip("the repository cannot be read by another user")
        assert run("alpha==1.0", 4711, "0077") == "False 1.0"
        assert run("alpha==1.0", 4712, "0022") == "True 1.0"
        assert run("alpha==2.0", 4712, "0022") == "False 2.0"
        assert run("alpha==2.0", 4711, "0077") == "True 2.0"
    finally:
        subprocess.run(["rm", "-rf", folder], check=True)


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Path]:
    folder = tmp_path / "small"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", folder], check=True)
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


@ROOT_ONLY
@pytest.mark.parametrize("manager", ["uv", "pip"])
def test_a_full_cache_disk_is_told_and_the_pod_builds_for_itself(tmp_path, wheels, small_disk, manager) -> None:
    told: list[str] = []
    environment = prepare("alpha==1.0\nbeta", tmp_path, wheels, cache=small_disk, told=told, manager=manager)
    assert python(environment, "import alpha; print(alpha.VERSION)") == "1.0"
    assert any("No space left" in line and "this pod alone" in line for line in told), told
    assert not list((small_disk / "environments").glob(f"{BUILDING}*"))


@ROOT_ONLY
def test_when_the_work_folder_is_full_too_the_error_says_so(tmp_path, wheels, small_disk) -> None:
    with pytest.raises(EnvironmentBuildError, match=r"(?s)work folder cannot hold.*disk full"):
        prepare("alpha==1.0", tmp_path, wheels, cache=small_disk, work=small_disk / "work", manager="pip")


def test_an_entry_without_its_lock_file_or_with_a_torn_seal_is_no_trap(tmp_path, wheels) -> None:
    first = prepare("alpha==1.0", tmp_path, wheels)
    path = tmp_path / "cache" / "environments" / first.key
    (path / LOCK).unlink()
    assert prepare("alpha==1.0", tmp_path, wheels).from_cache
    (path / SEAL).write_text('{"python": "3.')
    assert not prepare("alpha==1.0", tmp_path, wheels).from_cache


def hammer(tmp_path: Path, wheels: Path, keys: int, children: int, environ: dict[str, str]) -> None:
    words = [sys.executable, HERE / "hammer.py", tmp_path, wheels, keys, children, 5]
    done = subprocess.run(
        [str(word) for word in words], env={**os.environ, **environ}, capture_output=True, text=True, timeout=250
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr[-3000:]}"
    store = Store(tmp_path / "shared" / "environments")
    assert care.verify(store) == {}
    for one in care.entries(store):
        assert one.entry.mark == mark_of(one.entry.packages)
    store.clean()
    if not environ:
        assert not [path.name for path in store.folder.glob(".*-*") if not path.name.startswith(BEGUN)]


@pytest.mark.slow
def test_a_hundred_pods_at_once_half_of_them_killed_leave_a_clean_store(tmp_path, wheels) -> None:
    hammer(tmp_path, wheels, 10, 100, {})


def test_pods_at_once_on_a_file_system_whose_locks_fail(tmp_path, wheels, without_locks) -> None:
    hammer(tmp_path, wheels, 3, 12, without_locks)
