"""The small process above a local pod's container, as containerd's shim is: the pod outlives the controller.

Run by path, isolated, standard library only (`python -I -S shim.py FOLDER GRACE LOCK_FD -- ARGV...`); never imported.
Its environment is the container's. It holds the lock on FOLDER/alive (LOCK_FD, inherited locked) for its whole life,
so the kernel tells whether it lives; writes FOLDER/started, starts ARGV with its output in FOLDER/log, passes SIGTERM
on once and kills after GRACE seconds. It is the subreaper of everything the container starts, whatever forks and
sessions lie between; when the container's process ends, the rest is killed, and only then FOLDER/exit is written.
Killed itself, the kernel kills the container's process (PR_SET_PDEATHSIG); the controller finds the rest.
"""

# ruff: noqa: PTH105, PTH118, PTH208, SIM105, S606

import ctypes
import os
import signal
import sys
import time

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36


def main() -> None:
    folder, grace, lock = sys.argv[1], float(sys.argv[2]), int(sys.argv[3])
    os.set_inheritable(lock, False)
    prctl = ctypes.CDLL(None).prctl
    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGALRM})
    shim = os.getpid()
    container = os.fork()
    if container == 0:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != shim:
            os._exit(1)
        run(folder, sys.argv[5:])
    told: list[bool] = []

    def terminate(*_: object) -> None:
        if not told:
            told.append(True)
            send(container, signal.SIGTERM)
            signal.setitimer(signal.ITIMER_REAL, max(grace, 0.001))

    signal.signal(signal.SIGTERM, terminate)
    signal.signal(signal.SIGALRM, lambda *_: send(container, signal.SIGKILL))
    write(folder, "started", f"{shim} {container} {time.time()}")
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM, signal.SIGALRM})
    while True:
        pid, status = os.waitpid(-1, 0)
        if pid == container:
            break
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGALRM})
    kill_rest(shim)
    code = os.waitstatus_to_exitcode(status)
    write(folder, "exit", f"{128 - code if code < 0 else code} {max(0, -code)} {time.time()}")


def run(folder: str, argv: list[str]) -> None:
    """In the child: become the container's process. Does not return."""
    try:
        os.setsid()
        log = os.open(os.path.join(folder, "log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        null = os.open("/dev/null", os.O_RDONLY)
        for target, source in ((0, null), (1, log), (2, log)):
            os.dup2(source, target)
        signal.pthread_sigmask(signal.SIG_SETMASK, set())
        for number in (signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
        os.execvp(argv[0], argv)
    except BaseException as error:
        write(folder, "start-error", f"{argv[:1]}: {error}")
    os._exit(127)


def kill_rest(shim: int) -> None:
    """Kill and reap until no descendant is left: those of a killed parent become our own children."""
    while True:
        try:
            if os.waitpid(-1, os.WNOHANG)[0]:
                continue
        except ChildProcessError:
            return
        for pid in children(shim):
            send(pid, signal.SIGKILL)
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def children(parent: int) -> list[int]:
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as file:
                    fields = file.read().rpartition(b")")[2].split()
            except OSError:
                continue
            if int(fields[1]) == parent:
                found.append(int(name))
    return found


def send(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


def write(folder: str, name: str, text: str) -> None:
    """Whole or not at all."""
    beside = os.path.join(folder, f".{name}.{os.getpid()}")
    with open(beside, "w") as file:
        file.write(text)
    os.replace(beside, os.path.join(folder, name))


if __name__ == "__main__":
    main()
