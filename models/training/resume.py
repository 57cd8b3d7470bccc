"""Training that survives an interruption: what an epoch leaves behind, in one file beside the weights.

A run that goes on from it gives the same bytes as one that was never interrupted.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

log = logging.getLogger(__name__)


class Resume:
    """Networks, optimiser, schedule and random states of one run, stored after every epoch.

    ``run`` names what is trained (seed, epochs, sizes, …): a file of another run is not gone on with.
    Without ``out`` nothing is stored.
    """

    def __init__(
        self,
        out: Path | None,
        run: Mapping[str, Any],
        networks: Mapping[str, nn.Module],
        optimiser: torch.optim.Optimizer,
        schedule: torch.optim.lr_scheduler.LRScheduler,
        rng: np.random.Generator,
    ) -> None:
        self._path = out and out.with_name(f"{out.name}.resume")
        self._run = json.dumps({"networks": sorted(networks), **run}, sort_keys=True)
        self._networks = dict(networks)
        self._optimiser, self._schedule, self._rng = optimiser, schedule, rng

    def restore(self) -> int:
        """Go on where this run was interrupted; → epochs that are done, 0 where there is nothing of it."""
        if self._path is None or not self._path.is_file():
            return 0
        try:
            kept = torch.load(self._path, weights_only=True)
        except Exception as error:
            log.info("%s cannot be read (%s): training starts anew", self._path.name, type(error).__name__)
            return 0
        if kept["run"] != self._run:
            log.info("%s is of another training: this one starts anew", self._path.name)
            return 0
        for name, network in self._networks.items():
            network.load_state_dict(kept["networks"][name])
        self._optimiser.load_state_dict(kept["optimiser"])
        self._schedule.load_state_dict(kept["schedule"])
        self._rng.bit_generator.state = json.loads(kept["numpy"])
        torch.set_rng_state(kept["torch"])
        if kept["cuda"]:
            torch.cuda.set_rng_state_all(kept["cuda"])
        log.info("going on after epoch %d of an interrupted training", kept["epochs"])
        return int(kept["epochs"])

    def store(self, epochs: int) -> None:
        """Remember that ``epochs`` are done."""
        if self._path is None:
            return
        kept = {
            "run": self._run,
            "epochs": epochs,
            "networks": {name: network.state_dict() for name, network in self._networks.items()},
            "optimiser": self._optimiser.state_dict(),
            "schedule": self._schedule.state_dict(),
            "numpy": json.dumps(self._rng.bit_generator.state),
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        }
        part = self._path.with_name(f"{self._path.name}.part")
        torch.save(kept, part)
        part.replace(self._path)

    def forget(self) -> None:
        """The training is done and its weights are written."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)
