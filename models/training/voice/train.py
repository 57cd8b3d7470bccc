"""Train the voice encoder, or judge its weights: ``portrait train --data DIR --only voice [--judge]``."""

from __future__ import annotations

import copy
import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from models import checkpoint
from models.encoder import OTHER
from models.heads import Head, heads_from_config
from models.pretrained import LocalFolder
from models.training.averaging import as_shipped, blend
from models.training.calibration import calibration_error, fit_temperature, fit_threshold, macro_f1
from models.training.resume import Resume
from models.training.voice.data import NO_LABEL, Hear, Heard, VoiceSet, judged_clips, load_voices
from models.voice.encoder import config_of, load_network, network_of
from models.voice.mel import FRAME_STEP, frame_mask, standardise
from models.voice.network import VoiceNetwork

log = logging.getLogger(__name__)

EPOCHS: Final = 12
BATCH: Final = 48
KEPT_ACCURACY: Final = 0.97
"""The word head abstains below the score at which 97 % of what it says on development sounds is right."""


VARIANTS: Final[Mapping[str, str]] = {
    "gru": "voice-gru",
    "cnn": "voice-cnn",
    "transformer": "voice-transformer",
    "hf": "voice-hf",
}
"""Variant → architecture."""
DEFAULT_VARIANT: Final = "gru"


def train_voice(
    data: Path,
    out: Path,
    epochs: int = EPOCHS,
    seed: int = 0,
    device: str = "cpu",
    voices: VoiceSet | None = None,
    variant: str = DEFAULT_VARIANT,
    emotion: bool = False,
    folder: LocalFolder | None = None,
) -> dict[str, Any]:
    """Train, calibrate on the development speakers, judge on the test speakers, write ``out``; → figures.

    ``voices`` are used instead of those of ``data`` where given: other clips, or split otherwise.
    ``emotion`` adds that head, a sensitive inference, where the dataset names its column. ``folder`` holds
    the model of the variant ``hf``.
    """
    torch.manual_seed(seed)
    voices = voices or load_voices(data, seed=seed, emotion=emotion, hear=_ear(folder) if folder else None)
    untrained = {"word": Head(voices.words)} | _emotion_head(voices)
    architecture = VARIANTS[variant]
    bare = config_of({n: h.to_config() for n, h in untrained.items()}, voices.langs, {}, architecture)
    bare |= folder.to_config(out.parent) if folder else {}
    network, resume = _fit(network_of(bare, out.parent).to(device), voices, epochs, seed, device, out)
    network = as_shipped(network)
    heads = _calibrate(network, voices)
    figures = judge(network, heads, voices, data) | {"epochs": epochs, "seed": seed}
    config = bare | {"heads": {n: h.to_config() for n, h in heads.items()}, "figures": figures}
    checkpoint.save(out, network.state_dict(), config)
    resume.forget()
    return figures


def _ear(folder: LocalFolder) -> Hear:
    from models.voice.pretrained import FrozenEar

    return FrozenEar(folder)


def _emotion_head(voices: VoiceSet) -> dict[str, Head]:
    return {"emotion": Head(voices.emotion_names)} if voices.emotion_names else {}


def _fit(
    network: VoiceNetwork, voices: VoiceSet, epochs: int, seed: int, device: str, out: Path
) -> tuple[VoiceNetwork, Resume]:
    """AdamW, one cycle of the learning rate, running average of the weights (returned)."""
    rng = np.random.default_rng(seed)
    places = voices.where("train")
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=0.03)
    steps = len(_batches(voices, places, rng))
    cycle = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, 4e-3, total_steps=max(epochs * steps, 20), pct_start=0.2
    )
    average = copy.deepcopy(network)
    what = {"voice": type(network).__name__, "clips": len(voices.labels), "epochs": epochs, "seed": seed}
    what |= {"heads": network.head_names}
    resume = Resume(out, what, {"network": network, "average": average}, optimiser, cycle, rng)
    for epoch in range(resume.restore(), epochs):
        start, total = time.monotonic(), 0.0
        network.train()
        for step, batch in enumerate(_batches(voices, rng.permutation(places), rng)):
            heard = [voices.variants[i][rng.integers(len(voices.variants[i]))] for i in batch]
            x, counts = (t.to(device) for t in network.gather(heard))
            if x.dim() == 3:  # log-mels; the features of a frozen model stay as they are
                x, counts = _augment(x, counts)
            with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
                loss = _loss(network(x, counts), voices, batch)
            optimiser.zero_grad()
            torch.autograd.backward(loss)
            torch.nn.utils.clip_grad_norm_(network.parameters(), 2.0)
            optimiser.step()
            cycle.step()
            total += float(loss.detach())
            blend(average, network, epoch * steps + step, keep=0.995)
        dev = _accuracy(logits_of(average.eval(), voices, voices.where("dev", "words")), voices, "dev")
        resume.store(epoch + 1)
        log.info(
            "epoch %d loss %.3f dev %.4f %.0f s", epoch + 1, total / steps, dev, time.monotonic() - start
        )
    return average, resume


def _loss(logits: Mapping[str, Tensor], voices: VoiceSet, batch: npt.NDArray[np.intp]) -> Tensor:
    device = logits["word"].device
    wanted = torch.from_numpy(voices.labels[batch]).to(device)
    loss = F.cross_entropy(logits["word"], wanted, label_smoothing=0.1)
    felt = torch.from_numpy(voices.emotions[batch]).to(device)
    if "emotion" in logits and bool((felt != NO_LABEL).any()):
        return loss + F.cross_entropy(logits["emotion"], felt, ignore_index=NO_LABEL, label_smoothing=0.1)
    return loss


def _batches(
    voices: VoiceSet, places: npt.NDArray[np.intp], rng: np.random.Generator
) -> list[npt.NDArray[np.intp]]:
    """Shuffled places in batches of about BATCH; sounds of like length meet, so that little is padding."""
    pools = np.array_split(places, max(len(places) // (BATCH * 10), 1))
    batches = []
    for pool in pools:
        by_length = pool[np.argsort([voices.variants[i][0].shape[-1] for i in pool], kind="stable")]
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
    network: VoiceNetwork, voices: VoiceSet, places: npt.NDArray[np.intp], head: str = "word"
) -> npt.NDArray[np.float32]:
    """[n, labels] of the undisturbed clips at ``places``."""
    return _logits(network, [voices.variants[i][0] for i in places], head)


def _logits(network: VoiceNetwork, heard: Sequence[Heard], head: str = "word") -> npt.NDArray[np.float32]:
    layer = network.get_submodule(head)
    weight = next(layer.parameters())
    parts = [np.zeros((0, len(weight)), np.float32)]
    with torch.inference_mode():
        for start in range(0, len(heard), 64):
            x, counts = network.gather(heard[start : start + 64])
            parts.append(network(x.to(weight.device), counts.to(weight.device))[head].cpu().numpy())
    return np.concatenate(parts)


def _accuracy(logits: npt.NDArray[np.float32], voices: VoiceSet, split: Any) -> float:
    right = logits.argmax(1) == voices.labels[voices.where(split, "words")]
    return float(right.mean()) if len(right) else float("nan")


def _calibrate(network: VoiceNetwork, voices: VoiceSet) -> dict[str, Head]:
    places = voices.where("dev")
    logits, wanted = logits_of(network, voices, places), voices.labels[places]
    head = Head(voices.words, fit_temperature(logits, wanted))
    threshold = fit_threshold(head.probabilities(logits), wanted, KEPT_ACCURACY, 0.8)
    heads = {"word": Head(head.labels, head.temperature, max(threshold, 0.5))}
    for name, head in _emotion_head(voices).items():
        mine = places[voices.emotions[places] != NO_LABEL]
        logits = logits_of(network, voices, mine, name)
        heads[name] = Head(head.labels, fit_temperature(logits, voices.emotions[mine]), 0.5)
    return heads


def judge(network: VoiceNetwork, heads: Mapping[str, Head], voices: VoiceSet, data: Path) -> dict[str, Any]:
    """Figures on unseen speakers, and how often the head rightly abstains on what is no word of its own.

    Parts of the role ``judge`` are of recording sets that no training saw.
    """
    figures: dict[str, Any] = {}
    places = voices.where("test", "words")
    if len(places):
        logits, wanted = logits_of(network, voices, places), voices.labels[places]
        figures["words"] = _judge_words(heads["word"], logits, wanted, voices.speakers[places])
    for source in dict.fromkeys(s for s in voices.sources.tolist() if s != "words"):
        places = voices.where("test", source)
        if len(places):
            figures[f"{source}/abstains"] = _abstains(heads["word"], logits_of(network, voices, places))
    for source, heard in judged_clips(data, network.listen).items():
        figures[f"{source}/abstains"] = _abstains(heads["word"], _logits(network, heard))
    places = voices.where("test")
    places = places[voices.emotions[places] != NO_LABEL]
    if "emotion" in heads and len(places):
        p = heads["emotion"].probabilities(logits_of(network, voices, places, "emotion"))
        wanted = voices.emotions[places]
        figures["emotion"] = {
            "n": len(places),
            "accuracy": round(float((p.argmax(1) == wanted).mean()), 4),
            "macro_f1": round(macro_f1(p.argmax(1), wanted), 4),
            "calibration_error": round(calibration_error(p, wanted), 4),
        }
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


def judge_voice(data: Path, weights: Path) -> dict[str, Any]:
    """Figures of these weights on the test split of a folder. Raises CheckpointError."""
    network, config, _ = load_network(weights)
    heads = heads_from_config(config)
    hear = network.listen if network.frozen else None
    voices = load_voices(data, copies=0, emotion="emotion" in heads, hear=hear)
    return judge(network.eval(), heads, voices, data)
