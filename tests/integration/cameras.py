"""Cameras for tests: clips that PyAV makes, a server of JPEGs over HTTP that can be killed, and a stage that reads frames."""

from __future__ import annotations

import base64
import io
import socket
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pipeline.video.frame import Size
from pipeline.video.scene import Drawn, Scene

SMALL = Size(64, 48)

STAGES = '''
import time

from stages.spec import TensorSpec


class Look:
    """Takes its time for each frame, and tells the stream and the sequence of each."""

    inputs = (TensorSpec("frame", "uint8", (48, 64, 3)),)
    outputs = (TensorSpec.json("seen", 256),)

    def __init__(self, seconds=0.0):
        self._seconds = seconds

    def process(self, batch):
        for row, request in enumerate(batch.requests):
            time.sleep(self._seconds)
            mean = float(batch.rows("frame")[row].mean())
            batch.write(row, "seen", [request.name, request.stream, request.sequence, round(mean, 1), len(batch.requests)])
'''


def config_of(folder: Path, sources: list[dict[str, Any]], *, seconds: float = 0.0, delay_ms: int = 0, **fields: Any) -> Path:
    """A pipeline of one stage over these cameras."""
    import yaml

    from tests.links import LINK

    (folder / "camera_stages.py").write_text(STAGES)
    batch = {"max_size": 4, "max_delay_ms": delay_ms}
    document = {
        "inputs": [{"name": "frame", "dtype": "uint8", "shape": [48, 64, 3]}],
        "sources": sources,
        "stages": [{"name": "look", "use": "./camera_stages.py:Look", "with": {"seconds": seconds}, "batch": batch}],
        **LINK,
        **fields,
    }
    path = folder / "cameras.yaml"
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    return path


def picture(number: int, size: Size = SMALL, seed: int = 0) -> np.ndarray[Any, np.dtype[np.uint8]]:
    pixels = np.zeros((size.height, size.width, 3), np.uint8)
    Drawn(Scene(size, 25.0, 0, seed), number).write(pixels)
    return pixels


def clip(path: Path, frames: int, *, fps: int = 25, size: Size = SMALL, codec: str = "mpeg4") -> Path:
    """A file of so many frames, each of another picture."""
    import av

    with av.open(str(path), "w") as out:
        stream: Any = out.add_stream(codec, rate=fps)
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        for number in range(frames):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(picture(number, size), "rgb24")))
        out.mux(stream.encode())
    return path


class _Handler(BaseHTTPRequestHandler):
    server: JpegServer

    def do_GET(self) -> None:
        self.server.asked.append(self.headers.get("Authorization", ""))
        if self.server.login and self.headers.get("Authorization") != self.server.login:
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="camera"')
            self.end_headers()
            return
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        number = 0
        while not self.server.gone.is_set():
            if not self.server.frozen.is_set():
                buffer = io.BytesIO()
                Image.fromarray(picture(number, self.server.size)).save(buffer, "JPEG")
                data = b"no picture" * 20 if self.server.garbage.is_set() else buffer.getvalue()
                head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n".encode()
                try:
                    self.wfile.write(head + data + b"\r\n")
                except OSError:
                    return
                number += 1
            time.sleep(1 / 25)

    def log_message(self, format: str, *args: Any) -> None:
        pass


class JpegServer(ThreadingHTTPServer):
    """A camera that sends JPEGs over HTTP, 25 each second, for as long as it is not closed.

    Args:
        port: 0: any.
        user, password: what it asks for; empty: nothing.
    """

    daemon_threads = False
    block_on_close = True

    def __init__(self, port: int = 0, user: str = "", password: str = "") -> None:
        self.gone, self.frozen, self.garbage = threading.Event(), threading.Event(), threading.Event()
        self.size = SMALL
        self.asked: list[str] = []
        self.login = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode() if user else ""
        self._sockets: list[socket.socket] = []
        super().__init__(("127.0.0.1", port), _Handler)
        self._thread = threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def get_request(self) -> tuple[socket.socket, Any]:
        found = super().get_request()
        self._sockets.append(found[0])
        return found

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass

    def __enter__(self) -> JpegServer:
        return self

    def __exit__(self, *_: object) -> None:
        """As if it was killed: every connection is cut."""
        self.gone.set()
        self.shutdown()
        for each in self._sockets:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        self.server_close()
        self._thread.join()
