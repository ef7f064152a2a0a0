"""A private index: a real pypiserver with users, on a free port, and what was asked of it."""

from __future__ import annotations

import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

from passlib.apache import HtpasswdFile

from tests.support import free_port

USER, PASSWORD = "reader", "s3cret-pass"


class Index:
    """pypiserver on a folder of wheels; every request needs the user's password."""

    def __init__(self, folder: Path, packages: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        passwords = HtpasswdFile(str(folder / "htpasswd"), new=True, default_scheme="apr_md5_crypt")
        passwords.set_password(USER, PASSWORD)
        passwords.save()
        self.port = free_port()
        self.log = folder / "log"
        words = [sys.executable, "-m", "pypiserver", "run", "--port", str(self.port), "--interface", "127.0.0.1"]
        words += ["--passwords", str(folder / "htpasswd"), "--authenticate", "list,download,update"]
        words += ["--disable-fallback", "--log-file", str(self.log), "-vv", "--backend", "simple-dir", str(packages)]
        self._process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self._until_it_answers()

    @property
    def plain(self) -> str:
        return f"http://127.0.0.1:{self.port}/simple/"

    @property
    def url(self) -> str:
        return f"http://{USER}:{PASSWORD}@127.0.0.1:{self.port}/simple/"

    def asked(self) -> int:
        """How many requests there were."""
        return self.log.read_text().count("GET /simple/") if self.log.exists() else 0

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()

    def _until_it_answers(self) -> None:
        for _ in range(400):
            try:
                urllib.request.urlopen(self.plain, timeout=1)
            except urllib.error.HTTPError:
                return
            except OSError:
                time.sleep(0.02)
        raise AssertionError("the index did not start")
