"""`demo`: a page on this machine to drop a picture on, answered by the champion, which also shows where it looks."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import socket
import webbrowser
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from io import BytesIO
from typing import Any

import matplotlib as mpl
import numpy as np
import uvicorn
from fastapi import FastAPI, HTTPException, Request
from fastapi.middleware.trustedhost import TrustedHostMiddleware
from fastapi.responses import HTMLResponse, JSONResponse
from jinja2 import Environment, PackageLoader, select_autoescape
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from starlette.requests import ClientDisconnect

from car_or_truck.commands.predict import confidence
from car_or_truck.errors import Failure, summarize
from car_or_truck.fetch.standin.draw import draw
from car_or_truck.prepare import images
from car_or_truck.registry import loading, versions
from car_or_truck.registry.versions import CHAMPION, Version

HOST = "127.0.0.1"
MOST_MEGABYTES = 20  # of a picture file
PATIENCE = 3  # seconds for what is under way after Ctrl-C
SHOWN = 448  # pixels a side of the pictures in an answer
EXAMPLES, EXAMPLE_SEED = 6, 27182  # drawn with a seed of their own: no model was trained on them
# The page may load nothing from anywhere else, and send nothing there.
POLICY = (
    "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; img-src data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def demo(model: str | None, port: int, open_page: bool, console: Console) -> None:
    """Serve the page until Ctrl-C. Raises Failure when the port is taken, or the model is not there."""
    with listener_at(port) as listener, ThreadPoolExecutor(1) as worker:
        version = versions.find(versions.open_registry(), CHAMPION if model is None else model)
        address = f"http://{HOST}:{listener.getsockname()[1]}"
        # Said before the loading, which holds stderr back.
        console.print(f"{version.name} {version} answers at {address} until you press Ctrl-C.")
        classifier = worker.submit(_load, version)
        config = uvicorn.Config(
            application(version, classifier, worker),
            log_level="warning",
            timeout_graceful_shutdown=PATIENCE,
        )
        server = uvicorn.Server(config)
        classifier.add_done_callback(lambda loaded: setattr(server, "should_exit", bool(loaded.exception())))
        if open_page:
            webbrowser.open(address)
        with contextlib.suppress(KeyboardInterrupt):
            server.run(sockets=[listener])
        classifier.result()  # raises what kept it from being loaded


def application(version: Version, classifier: Future[Any], worker: Executor) -> FastAPI:
    """The page, and the answers of a classifier that may still be loading.

    `worker` has one thread, because a large picture takes much memory while it is decoded.
    """
    app = FastAPI(openapi_url=None)  # FastAPI's own pages load scripts from elsewhere
    # A page of another site cannot reach this one under a name of its own (DNS rebinding).
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=[HOST, "localhost"])
    environment = Environment(loader=PackageLoader("car_or_truck.commands"), autoescape=select_autoescape(["j2"]))
    template = environment.get_template("demo.html.j2")
    examples = [images.png_base64(np.asarray(draw(EXAMPLE_SEED, "valid", number))) for number in range(EXAMPLES)]

    @app.get("/")
    def page() -> HTMLResponse:
        nonce = secrets.token_urlsafe(16)
        text = template.render(nonce=nonce, version=version, examples=examples, most_megabytes=MOST_MEGABYTES)
        return HTMLResponse(text, headers={"Content-Security-Policy": POLICY.format(nonce=nonce)})

    @app.get("/ready")
    async def ready() -> None:
        await asyncio.wrap_future(classifier)

    @app.post("/answer")
    async def reply(request: Request) -> dict[str, Any]:
        if request.headers.get("origin") not in (None, str(request.base_url).rstrip("/")):
            raise HTTPException(403, "Pages of other sites get no answers.")
        content = bytearray()
        async for chunk in request.stream():
            content += chunk
            if len(content) > MOST_MEGABYTES * 1_000_000:
                raise HTTPException(413, f"The file is larger than {MOST_MEGABYTES} MB. Save the picture smaller.")
        return await asyncio.get_running_loop().run_in_executor(worker, answer, classifier, bytes(content))

    @app.exception_handler(ClientDisconnect)  # nobody reads that answer, but nor does the terminal show a traceback
    @app.exception_handler(Failure)
    def explain(_: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"detail": str(error)}, 422)

    return app


def answer(classifier: Future[Any], content: bytes) -> dict[str, Any]:
    """What the page shows for a picture file. Raises Failure when that cannot be read."""
    try:
        pixels = images.decode(BytesIO(content), SHOWN).pixels
    except (ValueError, MemoryError) as error:
        reason = summarize(error)
        if reason == "not an image":
            reason = f"it is not one of {', '.join(images.FORMATS)}. Save other kinds, such as HEIC, as JPEG"
        raise Failure(f"This picture cannot be read: {reason}.") from None
    net = classifier.result()
    picture = net.decode(BytesIO(content))[None]
    (row,) = loading.answers(net, picture, None).to_dict("records")
    return {
        "label": row["label"],
        "confidence": confidence(row),
        "unlike": bool(row.get("unlike")),
        "picture": images.png_base64(pixels),
        "lit": images.png_base64(_lit(pixels, loading.heat(net, picture)[0])),
    }


def _lit(pixels: NDArray[np.uint8], heat: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The picture [side, side, 3] with its heat [h, w] laid over it, as in the figures."""
    enlarged = Image.fromarray(heat).resize((SHOWN, SHOWN), Image.Resampling.BICUBIC)
    colours = mpl.colormaps["inferno"](np.asarray(enlarged).clip(0, 1), bytes=True)[..., :3]
    return np.asarray(Image.blend(Image.fromarray(pixels), Image.fromarray(colours), 0.45))


def _load(version: Version) -> Any:
    loading.start()
    return loading.classifier(version)


def listener_at(port: int) -> socket.socket:
    """A socket of this machine alone; 0: at any free port."""
    try:
        return socket.create_server((HOST, port))
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        raise Failure(f"Port {port}: {reason}. Choose another with --port, or any free one with --port 0.") from None
