"""Repositories over ssh from a real sshd, and over git:// from a real daemon."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from bootstrap.errors import RepositoryError
from clearml_api.models import Script
from tests.bootstrap.git_servers import Daemon, GitPod, Ssh


@pytest.fixture(scope="module")
def ssh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ssh]:
    server = Ssh(tmp_path_factory.mktemp("sshd") / "etc")
    yield server
    server.stop()


def mount_key(git_pod: GitPod, ssh: Ssh, name: str, text: bytes, known_hosts: str) -> None:
    """As Kubernetes mounts a Secret: readable by everybody."""
    folder = git_pod.home / ".ssh"
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(text)
    (folder / name).chmod(0o644)
    if known_hosts:
        (folder / "known_hosts").write_text(known_hosts)


def test_a_mounted_key_opens_ssh_whatever_its_name_mode_and_last_newline(git_pod, ssh, served, head) -> None:
    mount_key(git_pod, ssh, "ssh-privatekey", ssh.key.read_bytes().rstrip(b"\n"), ssh.known_hosts)
    url = f"ssh://root@127.0.0.1:{ssh.port}{served}/private/closed.git"
    assert git_pod.prepare(Script(repository=url, commit=head)).commit == head
    shutil.rmtree(git_pod.home / ".ssh")
    with pytest.raises(RepositoryError, match="could not be fetched"):
        git_pod.prepare(Script(repository=url, commit=head))


def test_known_hosts_is_honoured(git_pod, ssh, served, head) -> None:
    url = f"ssh://root@127.0.0.1:{ssh.port}{served}/open.git"
    script = Script(repository=url, branch="main")
    mount_key(git_pod, ssh, "id_ed25519", ssh.key.read_bytes(), "")
    assert git_pod.prepare(script).commit == head, "none is mounted: the host is trusted when it is first met"
    mount_key(git_pod, ssh, "id_ed25519", ssh.key.read_bytes(), f"example.org {ssh.known_hosts.split(' ', 1)[1]}")
    with pytest.raises(RepositoryError) as caught:
        git_pod.prepare(script)
    assert "not in the known_hosts that is mounted" in caught.value.hint


def test_a_scp_like_address_and_one_that_is_forced_to_ssh(git_pod, ssh, served, head) -> None:
    mount_key(git_pod, ssh, "id_ed25519", ssh.key.read_bytes(), "")
    (git_pod.home / ".ssh" / "config").write_text(f"Host forge\n  HostName 127.0.0.1\n  Port {ssh.port}\n  User root\n")
    assert git_pod.prepare(Script(repository=f"root@forge:{served}/open.git", commit=head)).commit == head
    forced = {"force_git_ssh_protocol": True, "force_git_ssh_user": "root", "force_git_ssh_port": ssh.port}
    checkout = git_pod.prepare(Script(repository=f"https://127.0.0.1:443{served}/open.git", branch="main"), forced)
    assert checkout.commit == head
    assert any("using ssh for 127.0.0.1" in line for line in git_pod.told)


def test_the_operators_own_ssh_command_counts(git_pod, ssh, served, head) -> None:
    command = f"ssh -i {ssh.key} -oStrictHostKeyChecking=no -oUserKnownHostsFile=/dev/null"
    url = f"ssh://root@127.0.0.1:{ssh.port}{served}/open.git"
    assert git_pod.prepare(Script(repository=url, commit=head), GIT_SSH_COMMAND=command).commit == head


def test_the_git_protocol(git_pod, served, head) -> None:
    daemon = Daemon(served)
    try:
        script = Script(repository=f"git://127.0.0.1:{daemon.port}/open.git", commit=head)
        assert git_pod.prepare(script).commit == head
    finally:
        daemon.stop()
    assert git_pod.prepare(script).commit == head, "from the cache"
