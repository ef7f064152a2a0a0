"""Headless Chromium by the DevTools protocol (https://chromedevtools.github.io/devtools-protocol/): just enough to
open a page, evaluate JavaScript in it, wait, and take a picture.
"""

from __future__ import annotations

import base64
import itertools
import json
import shutil
import subprocess
import time
import urllib.request
from pathlib import Path
from typing import Any

import websocket

BINARIES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions",
    "--disable-dev-shm-usage", "--remote-debugging-port=0", "--remote-allow-origins=*", "--window-size=1440,1000",
)  # fmt: skip


class Browser:
    """One Chromium with a profile of its own in `folder`; AssertionError when there is none on this machine."""

    def __init__(self, folder: Path) -> None:
        binary = next((path for name in BINARIES if (path := shutil.which(name))), None)
        assert binary, "no Chromium: the page's tests need one (Debian: apt-get install chromium)"
        profile = folder / "profile"
        self._log = (folder / "chromium.log").open("wb")
        self._process = subprocess.Popen(
            [binary, *FLAGS, f"--user-data-dir={profile}", "about:blank"],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
        )
        try:
            self._port = self._debugging_port(profile / "DevToolsActivePort", folder / "chromium.log")
        except BaseException:
            self.close()
            raise

    def open(self, address: str, *, dark: bool = True, script: str = "") -> Page:
        """A new tab at `address`; `script` runs in it before anything of the page does."""
        request = urllib.request.Request(f"http://127.0.0.1:{self._port}/json/new?about:blank", method="PUT")
        with urllib.request.urlopen(request, timeout=10) as answer:
            page = Page(json.load(answer)["webSocketDebuggerUrl"])
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        page.command("Emulation.setEmulatedMedia", features=[scheme])
        page.command("Page.enable")
        if script:
            page.command("Page.addScriptToEvaluateOnNewDocument", source=script)
        page.command("Page.navigate", url=address)
        return page

    def close(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()

    def _debugging_port(self, file: Path, log: Path) -> int:
        end = time.monotonic() + 20
        while time.monotonic() < end and self._process.poll() is None:
            lines = file.read_text().splitlines() if file.exists() else []
            if len(lines) >= 2:
                return int(lines[0])
            time.sleep(0.02)
        raise AssertionError(f"Chromium did not start: {log.read_text(errors='replace')[-2000:]}")


class Page:
    """One tab."""

    def __init__(self, address: str) -> None:
        self._socket = websocket.create_connection(address, timeout=20)
        self._numbers = itertools.count(1)

    def command(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send one command of the protocol; its result."""
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._socket.recv())
            if message.get("id") == number:
                assert "error" not in message, f"{method}: {message['error']}"
                return dict(message["result"])

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression (promises are awaited)."""
        result = self.command("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, f"{expression}: {result['exceptionDetails']}"
        return result["result"].get("value")

    def until(self, expression: str, seconds: float = 10) -> None:
        """Wait until `expression` is true; AssertionError, with the page's text, after `seconds`."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.evaluate(f"Boolean({expression})"):
                return
            time.sleep(0.05)
        raise AssertionError(f"{expression} did not become true; the page shows:\n{self.text()}")

    def text(self, selector: str = "body") -> str:
        """The text somebody sees in the first element of `selector`; empty when there is none."""
        return str(self.evaluate(f"document.querySelector({json.dumps(selector)})?.innerText ?? ''"))

    def until_text(self, selector: str, wanted: str, seconds: float = 10) -> None:
        """Wait until `selector` shows `wanted`."""
        self.until(f"document.querySelector({json.dumps(selector)})?.innerText.includes({json.dumps(wanted)})", seconds)

    def picture(self, file: Path) -> None:
        """Write what the tab shows, the whole page, as PNG."""
        taken = self.command("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        file.write_bytes(base64.b64decode(taken["data"]))

    def close(self) -> None:
        self.command("Page.close")
        self._socket.close()
