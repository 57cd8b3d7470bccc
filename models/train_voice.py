"""Train and judge the voice encoder: ``python -m models.train_voice --data DIR [--evaluate]``."""

from __future__ import annotations

import argparse
import copy
import logging
import time
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import torch
import torch.nn.functional as F
from torch import Tensor

from models import checkpoint
from models.averaging import as_shipped, blend
from models.calibration import calibration_error, fit_temperature, fit_threshold, macro_f1
from models.encoder import OTHER
from models.heads import Head, heads_from_config
from models.training_command import run
from models.voice import FRAME_STEP, VoiceNetwork, config_of, frame_mask, standardise
from models.voice_data import Mel, MelOf, VoiceSet, load_voices, pad_mels
from models.voice_decode import decode_voice

log = logging.getLogger(__name__)

BATCH: Final = 48
KEPT_ACCURACY: Final = 0.97
"""The word head abstains below the score at which 97 % of what it says on development sounds is right."""


def train_voice(
    data: Path,
    out: Path,
    epochs: int = 12,
    seed: int = 0,
    device: str = "cpu",
    voices: VoiceSet | None = None,
) -> dict[str, Any]:
    """Train, calibrate on the development speakers, judge on the test speakers, write ``out``; → figures.

    ``voices`` are used instead of those of ``data`` where given: other clips, or split otherwise.
    """
    torch.manual_seed(seed)
    voices = voices or load_voices(data, seed=seed)
    network = as_shipped(_fit(VoiceNetwork(len(voices.words)).to(device), voices, epochs, seed, device))
    head = _calibrate(network, voices)
    figures = judge(network, head, voices, data) | {"epochs": epochs, "seed": seed}
    checkpoint.save(out, network.state_dict(), config_of({"word": head.to_config()}, voices.langs, figures))
    return figures


def _fit(network: VoiceNetwork, voices: VoiceSet, epochs: int, seed: int, device: str) -> VoiceNetwork:
    """AdamW, one cycle of the learning rate, running average of the weights (returned)."""
    rng = np.random.default_rng(seed)
    places = voices.where("train")
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=0.03)
    steps = len(_batches(voices, places, rng))
    cycle = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, 4e-3, total_steps=max(epochs * steps, 20), pct_start=0.2
    )
    average = copy.deepcopy(network)
    for epoch in range(epochs):
        start, total = time.monotonic(), 0.0
        network.train()
        for step, batch in enumerate(_batches(voices, rng.permutation(places), rng)):
            mels = [voices.variants[i][rng.integers(len(voices.variants[i]))] for i in batch]
            mel, counts = _augment(*(x.to(device) for x in pad_mels(mels)))
            wanted = torch.from_numpy(voices.labels[batch]).to(device)
            loss = F.cross_entropy(network(mel, counts), wanted, label_smoothing=0.1)
            optimiser.zero_grad()
            torch.autograd.backward(loss)
            torch.nn.utils.clip_grad_norm_(network.parameters(), 2.0)
            optimiser.step()
            cycle.step()
            total += float(loss.detach())
            blend(average, network, epoch * steps + step, keep=0.995)
        dev = _accuracy(logits_of(average.eval(), voices, voices.where("dev", "words")), voices, "dev")
        log.info(
            "epoch %d loss %.3f dev %.4f %.0f s", epoch + 1, total / steps, dev, time.monotonic() - start
        )
    return average


def _batches(
    voices: VoiceSet, places: npt.NDArray[np.intp], rng: np.random.Generator
) -> list[npt.NDArray[np.intp]]:
    """Shuffled places in batches of about BATCH; sounds of like length meet, so that little is padding."""
    pools = np.array_split(places, max(len(places) // (BATCH * 10), 1))
    batches = []
    for pool in pools:
        by_length = pool[np.argsort([voices.variants[i][0].shape[1] for i in pool], kind="stable")]
        batches += np.array_split(by_length, max(len(pool) // BATCH, 1))
    return [batches[i] for i in rng.permutation(len(batches))]


def _augment(mel: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """Another speaking rate (±15 %) and vocal tract (±10 % and 2 mel), bands and moments hidden, some noise.

    After SpecAugment (Park et al. 2019) and vocal tract length perturbation (Jaitly & Hinton 2013).
    """
    n, mels, _ = mel.shape
    device = mel.device

    def uniform(low: float, high: float) -> Tensor:
        return torch.empty(n, 1, device=device).uniform_(low, high)

    rate = uniform(0.85, 1.18)
    counts = torch.maximum((counts / rate[:, 0]).long(), torch.tensor(4, device=device))
    frames = -(-int(counts.max()) // FRAME_STEP) * FRAME_STEP
    time_at = (torch.arange(frames, device=device) * rate) / max(mel.shape[2] - 1, 1) * 2 - 1
    mel_at = torch.arange(mels, device=device) * uniform(0.9, 1.1) + uniform(-2, 2)
    mel_at = mel_at / (mels - 1) * 2 - 1
    grid = torch.stack([time_at[:, None].expand(-1, mels, -1), mel_at[:, :, None].expand(-1, -1, frames)], -1)
    x = F.grid_sample(mel[:, None], grid, padding_mode="border", align_corners=True)[:, 0]
    x = x + torch.randn_like(x) * uniform(0, 0.25)[:, :, None]
    band, moment = torch.arange(mels, device=device), torch.arange(frames, device=device)
    for _ in range(2):
        low, start = uniform(-4, mels), uniform(-0.1, 1) * counts[:, None]
        hidden_band = (band >= low) & (band < low + uniform(0, 7))
        hidden_time = (moment >= start) & (moment < start + uniform(0, 0.15) * counts[:, None])
        x = x.masked_fill(hidden_band[:, :, None] | hidden_time[:, None, :], 0.0)
    return standardise(x * frame_mask(counts, frames)[:, None], counts), counts


def logits_of(
    network: VoiceNetwork, voices: VoiceSet, places: npt.NDArray[np.intp]
) -> npt.NDArray[np.float32]:
    """[n, words] of the undisturbed clips at ``places``."""
    return _logits(network, [voices.variants[i][0] for i in places])


def _logits(network: VoiceNetwork, mels: list[Mel]) -> npt.NDArray[np.float32]:
    device = next(network.parameters()).device
    if not mels:
        return np.zeros((0, network.word.out_features), np.float32)
    parts = []
    with torch.inference_mode():
        for start in range(0, len(mels), 64):
            mel, counts = pad_mels(mels[start : start + 64])
            parts.append(network(mel.to(device), counts.to(device)).cpu())
    return torch.cat(parts).numpy()


def _accuracy(logits: npt.NDArray[np.float32], voices: VoiceSet, split: Any) -> float:
    right = logits.argmax(1) == voices.labels[voices.where(split, "words")]
    return float(right.mean()) if len(right) else float("nan")


def _calibrate(network: VoiceNetwork, voices: VoiceSet) -> Head:
    places = voices.where("dev")
    logits, wanted = logits_of(network, voices, places), voices.labels[places]
    head = Head(voices.words, fit_temperature(logits, wanted))
    threshold = fit_threshold(head.probabilities(logits), wanted, KEPT_ACCURACY, 0.8)
    return Head(head.labels, head.temperature, max(threshold, 0.5))


def judge(network: VoiceNetwork, head: Head, voices: VoiceSet, data: Path) -> dict[str, Any]:
    """Figures on unseen speakers, and how often the head rightly abstains on what is no word of its own.

    The spoken digits are of another recording set that no training saw.
    """
    figures: dict[str, Any] = {}
    places = voices.where("test", "words")
    if len(places):
        logits, wanted = logits_of(network, voices, places), voices.labels[places]
        figures["words"] = _judge_words(head, logits, wanted, voices.speakers[places])
    for source in ("commands", "sentences", "noise", "reversed"):
        places = voices.where("test", source)
        if len(places):
            figures[f"{source}/abstains"] = _abstains(head, logits_of(network, voices, places))
    mel = MelOf()
    digits = [
        mel(decode_voice(b)) for b in pq.read_table(data / "aud_fsdd_8k_120.parquet")["wav"].to_pylist()
    ]
    figures["digits/abstains"] = _abstains(head, _logits(network, digits))
    return figures


def _judge_words(
    head: Head,
    logits: npt.NDArray[np.float32],
    wanted: npt.NDArray[np.int64],
    speakers: npt.NDArray[np.str_],
) -> dict[str, float]:
    p = head.probabilities(logits)
    right = p.argmax(1) == wanted
    kept = np.array(head.judge(logits).labels) != OTHER
    return {
        "n": len(wanted),
        "accuracy": round(float(right.mean()), 4),
        "macro_f1": round(macro_f1(p.argmax(1), wanted), 4),
        "worst_speaker": round(min(float(right[speakers == s].mean()) for s in set(speakers)), 4),
        "coverage": round(float(kept.mean()), 4),
        "accuracy_of_kept": round(float(right[kept].mean()), 4) if kept.any() else 0.0,
        "calibration_error": round(calibration_error(p, wanted), 4),
    }


def _abstains(head: Head, logits: npt.NDArray[np.float32]) -> dict[str, float]:
    said = [label == OTHER for label in head.judge(logits).labels]
    return {"n": len(said), "share": round(float(np.mean(said)), 4)}


def _train(options: argparse.Namespace) -> dict[str, Any]:
    return train_voice(options.data, options.weights, options.epochs, options.seed, device=options.device)


def _evaluate(options: argparse.Namespace) -> dict[str, Any]:
    state, config = checkpoint.load(options.weights, architecture="voice-")
    head = heads_from_config(config)["word"]
    network = VoiceNetwork(len(head.labels), config["widths"], config["hidden"]).eval()
    network.load_state_dict(checkpoint.full_precision(state))
    return judge(network, head, load_voices(options.data, copies=0), options.data)


if __name__ == "__main__":
    run(__doc__, "voice", 12, _train, _evaluate)
