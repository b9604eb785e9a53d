"""`demo`: the page, what it answers and refuses, and that it asks nobody else."""

from __future__ import annotations

import base64
import re
import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
import requests
import uvicorn
from PIL import Image

from car_or_truck.commands import demo
from car_or_truck.errors import Failure
from car_or_truck.evaluate.reliability import Reliability
from car_or_truck.registry.serving import Classifier
from car_or_truck.registry.versions import Version
from car_or_truck.train import runtime
from helpers.browsers import chromium
from helpers.clones import Project
from helpers.nets import built
from helpers.processes import running
from helpers.registered import console
from helpers.stores import SYNTHETIC, Store

RANDOM = np.random.default_rng(0)


def picture(form: str = "png", size: tuple[int, int] = (30, 60)) -> bytes:
    file = BytesIO()
    Image.fromarray(RANDOM.integers(0, 256, (*size, 3), np.uint8)).save(file, form)
    return file.getvalue()


def classifier(limit: float) -> Any:
    """A net that was not trained; pictures farther from zero than `limit` are unlike what it has seen."""
    runtime.start(0, "float32")
    reliability = Reliability(1.0, np.zeros(1), np.zeros(4, np.float32), np.eye(4, dtype=np.float32), limit)
    return Classifier(built(16), 32, ("Cat", "Dog"), 0.5, reliability)


@contextmanager
def served(model: Future[Any], **tags: str) -> Iterator[str]:
    """The page's address."""
    with demo.listener_at(0) as listener, ThreadPoolExecutor(1) as worker:
        app = demo.application(Version("car-or-truck", 3, "", tags), model, worker)
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


def completed_future(model: Any) -> Future[Any]:
    future: Future[Any] = Future()
    future.set_result(model)
    return future


@pytest.mark.parametrize(("limit", "unlike"), [(1e9, False), (0.0, True)])
def test_a_picture_is_answered_with_label_confidence_and_where_the_model_looks(limit: float, unlike: bool) -> None:
    model = classifier(limit)
    content = picture("webp", (30, 60))
    with served(completed_future(model)) as address:
        output = requests.post(f"{address}/answer", content, timeout=60).json()
    (expected,) = model.answers(model.decode(BytesIO(content))[None]).to_dict("records")
    assert (output["label"], output["unlike"]) == (expected["label"], unlike)
    assert output["confidence"] == pytest.approx(expected["confidence"])
    original, lit = (np.asarray(Image.open(BytesIO(base64.b64decode(output[key])))) for key in ("picture", "lit"))
    assert original.shape == lit.shape == (demo.SHOWN, demo.SHOWN, 3)
    assert not original[: demo.SHOWN // 5].any(), "a wide picture has black bars"
    assert (original != lit).any()


def test_what_is_no_picture_or_too_large_gets_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    with served(Future()) as address:

        def refusal(content: bytes) -> tuple[int, str]:
            response = requests.post(f"{address}/answer", content, timeout=60)
            return response.status_code, response.json()["detail"]

        for content in (b"", b"# Notes", b"%PDF-1.7"):
            code, sentence = refusal(content)
            assert code == 422
            assert sentence.startswith("This picture cannot be read: it is not one of AVIF, BMP,")
        assert refusal(picture()[:-200])[1] == "This picture cannot be read: image file is truncated."
        monkeypatch.setattr(demo, "MOST_MEGABYTES", 0.001)
        assert refusal(picture()) == (413, "The file is larger than 0.001 MB. Save the picture smaller.")


def test_a_page_of_another_site_gets_no_answer() -> None:
    with served(Future()) as address:
        statuses = [
            requests.post(f"{address}/answer", b"", headers={"Origin": origin}, timeout=60).status_code
            for origin in (address, "https://example.org", "null")
        ]
    assert statuses == [422, 403, 403]


def test_the_page_names_the_model_and_warns_of_synthetic_images() -> None:
    tags = {"variant": "sprint", "seed": "1", "accuracy": "0.9609"}
    warning = "It is of no use on photographs"
    with served(Future(), **tags, **{"data.source": "kaggle"}) as address:
        response = requests.get(address, timeout=60)
        assert "car-or-truck version 3 (sprint-1)" in response.text
        assert "96.1%" in response.text
        assert warning not in response.text
        assert requests.get(address, headers={"Host": "elsewhere.example"}, timeout=60).status_code == 400
        nonce = re.findall("nonce-([^']+)", response.headers["Content-Security-Policy"])[0]
        assert response.text.count(f'nonce="{nonce}"') == 2
        assert nonce not in requests.get(address, timeout=60).text
    with served(Future(), **{"data.source": "rendered"}) as address:
        assert warning in requests.get(address, timeout=60).text


def test_a_port_that_is_taken_and_a_missing_champion_are_explained(small_store: Store) -> None:
    small_store.register("tutorial")
    with pytest.raises(Failure, match=r"has no version 'champion'. `car-or-truck promote` makes one. It has 1\."):
        demo.demo(None, 0, False, console())
    with demo.listener_at(0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(Failure, match=f"Port {port}: Address already in use. Choose another with --port"):
            demo.demo(None, port, False, console())


def test_a_model_that_cannot_be_loaded_ends_the_demo(small_store: Store) -> None:
    small_store.register("tutorial")
    shutil.rmtree(small_store.root / "mlruns")
    with pytest.raises(Failure, match="models:/car-or-truck/1 cannot be loaded"):
        demo.demo("1", 0, False, console())


@pytest.mark.slow
def test_a_browser_gets_its_answers_and_asks_nobody_else(
    project: Project, client: mlflow.MlflowClient, tmp_path: Path
) -> None:
    client.set_registered_model_alias(SYNTHETIC, "champion", "2")
    photo = next((project.root / "data/raw/valid/Car").iterdir())
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / "large.png").write_bytes(bytes(demo.MOST_MEGABYTES * 1_000_000 + 1))
    answer = re.compile(r"^(Car|Truck), (over )?\d+\.\d%$|^Unlike the training images$")
    command = ("car-or-truck", "demo", "--port", "{port}")
    with running(project, *command, ready="/") as address, chromium() as browser:
        page = browser.new_page(viewport={"width": 390, "height": 844})
        page.set_default_timeout(60_000)
        urls: list[str] = []
        page.on("request", lambda request: urls.append(request.url))
        page.goto(address)
        page.get_by_text("Ready.").wait_for()
        label, status = page.locator("#label"), page.locator("#status")

        def await_answer(name: str) -> str:
            status.get_by_text(name, exact=True).wait_for()
            text: str = label.inner_text()
            assert answer.match(text)
            for place in ("#picture", "#lit"):
                assert page.locator(place).evaluate("image => image.complete && image.naturalWidth") == demo.SHOWN
            return text

        page.set_input_files("input[type=file]", photo)
        chosen = await_answer(photo.name)
        page.get_by_role("button", name="Synthetic image 3").press("Enter")
        await_answer("Synthetic image 3")
        drop = """([name, text]) => {
            const files = new DataTransfer();
            const bytes = Uint8Array.from(atob(text), letter => letter.charCodeAt(0));
            if (name) files.items.add(new File([bytes], name));
            document.body.dispatchEvent(new DragEvent("drop", {dataTransfer: files, bubbles: true, cancelable: true}));
        }"""
        page.evaluate(drop, ["dropped.jpeg", base64.b64encode(photo.read_bytes()).decode()])
        assert await_answer("dropped.jpeg") == chosen

        page.evaluate(drop, ["", ""])
        status.get_by_text("That is not a file.").wait_for()
        page.set_input_files("input[type=file]", tmp_path / "notes.txt")
        status.get_by_text("notes.txt: This picture cannot be read").wait_for()
        page.set_input_files("input[type=file]", tmp_path / "large.png")
        status.get_by_text("large.png has 20.0 MB; at most 20 MB can be read.").wait_for()
        assert page.evaluate("document.documentElement.scrollWidth") == 390

        assert urls[0] == f"{address}/"
        assert {url for url in urls if not url.startswith(("data:", "blob:"))} == {
            f"{address}/{path}" for path in ("", "ready", "answer")
        }
        elsewhere = "fetch('http://localhost:9/').then(() => 'sent', error => 'refused')"
        with page.expect_console_message(lambda message: "Content Security Policy" in message.text):
            assert page.evaluate(elsewhere) == "refused"
