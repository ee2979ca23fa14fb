"""A scored run with its log, teachers and recordings, as reports are made of, and a browser to look at one."""

from __future__ import annotations

import json
import shutil
import wave
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from kd_asr_slr.reporting.run_folder import RunFolder
from kd_asr_slr.scoring.score import score_predictions

NASTY = "<b>&\"'</script><script>document.title='broken'</script>"  # a text that must be shown, and nothing else
FLAGS = (
    "headless", "no-sandbox", "disable-gpu", "disable-quic", "disable-background-networking",
    "disable-component-update", "disable-sync", "no-first-run", "disable-dev-shm-usage",
)  # fmt: skip
# Colours of every text against what lies behind it, as the browser has computed them.
CONTRASTS = """
const light = (colour) => {
  const [r, g, b] = colour.match(/[\\d.]+/g).slice(0, 3).map((v) => v / 255)
    .map((v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const found = [];
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const node = walker.currentNode, owner = node.parentElement;
  if (!node.textContent.trim() || owner.closest("script, style, title") || !owner.getClientRects().length) continue;
  const drawn = owner.closest("svg") !== null, style = getComputedStyle(owner);
  let behind = owner;
  const clear = (item) => /(, 0\\)|transparent)$/.test(getComputedStyle(item).backgroundColor);
  while (behind && clear(behind)) behind = behind.parentElement;
  const back = getComputedStyle(behind || document.body).backgroundColor;
  const pair = [light(drawn ? style.fill : style.color), light(back)].sort((a, b) => b - a);
  found.push([(pair[0] + 0.05) / (pair[1] + 0.05), node.textContent.trim().slice(0, 40)]);
}
return found;
"""


def rows_of(share: int, speakers: int = 2, size: int = 24) -> list[dict[str, Any]]:
    """Prediction rows in which every `share`-th utterance has errors of every kind; the first one is nasty."""
    rows = []
    for number in range(size):
        reference = " ".join(["ALPHA", "BRAVO", "CHARLIE", "DELTA"][: 2 + number % 3])
        hypothesis = f"X{reference[1:]} EXTRA".replace("BRAVO", "") if number % share == 0 else reference
        rows.append({"id": f"u{number:02}", "speaker": f"s/{number % speakers}", "reference": reference})
        rows[-1] |= {"hypothesis": hypothesis, "band": "low" if number % 2 else "high"}
    rows[0] |= {"id": NASTY, "reference": f"ALPHA {NASTY}", "hypothesis": f"{NASTY} ALPHA"}
    return rows


def log_records() -> list[dict[str, float]]:
    """As transformers' Trainer keeps it."""
    records = []
    for epoch in range(1, 7):
        losses = {"loss": 3.0 / epoch, "loss_ctc": 2.0 / epoch, "loss_ctc_kd": 1.0 / epoch}
        rates = {"temperature": 4.0 - (epoch > 3), "learning_rate": 1e-3 * (6.5 - epoch)}
        records.append({**losses, **rates, "epoch": float(epoch), "step": 10 * epoch})
        records.append({"eval_loss": 2.5 / epoch, "eval_wer": 0.9 / epoch, "eval_wra": 1 - 0.9 / epoch, "epoch": epoch})
    return records


def scored_run(folder: Path, rows: list[dict[str, Any]], **config: Any) -> RunFolder:
    """A finished run with predictions and a log."""
    run = RunFolder(folder)
    run.claim({"corpus": "manifest", "features": "mediapipe_holistic", **config}, recipe="distill")
    teachers = [spec.rpartition("=")[2] for spec in config.get("teachers", ())]
    run.write_results(model_type="bilstm_ctc", parameters=1_234, bytes=4_936, corpus="s", teachers=teachers, seed=1)
    run.write_predictions("test", rows)
    run.add_scores(score_predictions(rows, "test", "greedy", resamples=50))
    (run.path / "history.json").write_text(json.dumps(log_records()))
    run.finish()
    return run


def write_recording(path: Path, seconds: float = 0.1) -> Path:
    """A wav file of silence."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(bytes(int(2 * 8000 * seconds)))
    return path


@contextmanager
def chromium(folder: Path, width: int = 1280, height: int = 1200, dark: bool = False) -> Iterator[Any]:
    """Headless Chromium; the test skips where it, its driver or selenium is absent."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    program, driver = shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")
    if program is None or driver is None:
        pytest.skip("no Chromium with its driver (Debian: apt-get install chromium chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for flag in (*FLAGS, f"user-data-dir={folder}", f"window-size={width},{height}"):
        options.add_argument(f"--{flag}")
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    try:
        browser.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600},
        )
        set_dark(browser, dark)
        yield browser
    finally:
        browser.quit()


def set_dark(browser: Any, dark: bool) -> None:
    """What the system prefers."""
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
