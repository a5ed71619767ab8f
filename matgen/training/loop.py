"""The training loop, the same for one process and for many: steps, history, validation, checkpoints, resume."""

import logging
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from matgen.settings import to_dict
from matgen.training.checkpoint import find_checkpoint, load_weights, repair_best, restore, save_checkpoint
from matgen.training.dataset import TrainingError, TrainingSet, WeightedBatches
from matgen.training.history import History
from matgen.training.optimizer import Ema, build_optimizer, freeze, learning_rate
from matgen.training.progress import Clock, progress_bar, progress_words
from matgen.training.state import TrainConfig, TrainState
from matgen.training.step import LossModule, Workers, evaluate, train_step

logger = logging.getLogger(__name__)

OnLog = Callable[[dict[str, Any], TrainState], None]


@dataclass(frozen=True)
class TrainResult:
    """How a run ended.

    Attributes:
        step: steps done.
        finished: False if it stopped early and can be resumed.
        num_skipped: steps left out because something was not finite.
        best_loss: best validation loss, inf without validation.
        checkpoint: the last checkpoint.
    """

    step: int
    finished: bool
    num_skipped: int
    best_loss: float
    checkpoint: Path


class Trainer:
    """Trains a model on a data set, leaves `checkpoints/` and `history.jsonl` in its directory, resumes by itself."""

    def __init__(
        self,
        model: nn.Module,
        dataset: TrainingSet,
        config: TrainConfig,
        out: Path,
        *,
        workers: Workers | None = None,
        run_config: dict[str, Any] | None = None,
        init_from: Path | None = None,
        on_log: OnLog | None = None,
    ) -> None:
        """Prepare a run, at its last checkpoint if it has one.

        Args:
            model: Trainable, with initial weights; moved to the workers' device.
            dataset: what to learn and what to measure on; moved to the workers' device.
            config: settings.
            out: directory of the run.
            workers: this process among others; a single one on the CPU where not given.
            run_config: JSON values for config.json; `model` is the model's configuration.
            init_from: checkpoint whose averaged weights a new run begins with (fine-tuning).
            on_log: called on rank 0 with each line of the history, and the state.

        Raises:
            CheckpointError: if there is a last checkpoint that is corrupt or belongs to another model.
            TrainingError: if there is nothing to train on.
        """
        if len(dataset) == 0:
            raise TrainingError(f"there is no {dataset.noun.removesuffix('s')} to train on")
        self.config, self.out, self.workers = config, out, workers or Workers()
        self.folder = out / "checkpoints"
        self.dataset = dataset
        dataset.to(self.workers.device)
        self.run_config = {"kind": dataset.kind, "model": {}, **(run_config or {}), "train": to_dict(config)}
        self.on_log = on_log
        self.total_steps = config.total_steps(len(dataset))
        self.run_config |= {"total_steps": self.total_steps, f"num_{dataset.noun}": len(dataset)}
        self.stop_requested = False
        self.state = self._initial_state(model.to(self.workers.device), init_from)
        self.loss_module = self._wrap()
        self.validation_batches = self._validation_batches()

    def _initial_state(self, model: nn.Module, init_from: Path | None) -> TrainState:
        config = self.config
        last = self.folder / "last"
        if init_from is not None and not last.exists():
            load_weights(model, find_checkpoint(init_from) / "weights.safetensors")
        freeze(model, config.frozen)
        optimizer = build_optimizer(model, config.learning_rate, config.betas, config.weight_decay)
        state = TrainState(model=model, optimizer=optimizer, ema=Ema(model, config.ema_decay))
        if last.exists():
            restore(last, state, self.run_config)
            logger.info("resumed %s at step %d", self.out, state.step)
            if self.workers.rank == 0:
                repair_best(self.folder, state.best_step)
        self.workers.barrier()  # nobody saves before all have read
        return state

    def _wrap(self) -> nn.Module:
        if self.config.precision == "tf32":
            torch.set_float32_matmul_precision("high")
        if self.config.compile:
            getattr(self.state.model, "network", self.state.model).compile(dynamic=True)
        module = LossModule(self.state.model)
        if self.workers.world_size == 1:
            return module
        devices = [self.workers.device] if self.workers.device.type == "cuda" else None
        return DistributedDataParallel(module, device_ids=devices, broadcast_buffers=False)

    def _validation_batches(self) -> WeightedBatches:
        if self.dataset.num_validation == 0:
            return []
        own = self.dataset.validation_batches(self.workers.rank, self.workers.world_size)
        return [(batch.to(self.workers.device), weight) for batch, weight in own]

    def run(self, progress: bool = False, until: int | None = None) -> TrainResult:
        """Train until the last step, or until asked to stop; leave a checkpoint either way.

        Args:
            progress: show a progress bar on rank 0.
            until: step at which to pause, if the last one is later; another call goes on from there.

        Returns:
            How it ended.

        Raises:
            TrainingError: if losses stay non-finite.
            CheckpointError: if a checkpoint cannot be written.
        """
        state, workers = self.state, self.workers
        began = time.monotonic()
        history = History(self.out / "history.jsonl", state.step) if workers.rank == 0 else None
        bar = progress_bar(self.total_steps, state.step) if progress and workers.rank == 0 else None
        self._saved_step, self._saved_time = state.step if (self.folder / "last").exists() else -1, began
        self._clock = Clock(self.config.batch_size, self.dataset.noun)
        stopping = False
        state.model.train()
        for batches in self._batches(state.step, min(self.total_steps, until or self.total_steps)):
            overtime = self.config.max_seconds is not None and time.monotonic() - began > self.config.max_seconds
            metrics = train_step(
                state,
                self.loss_module,
                batches,
                self.dataset,
                self.config,
                workers,
                self._rate(),
                self.stop_requested or overtime,
            )
            stopping = metrics.pop("stop") > 0
            self._after_step(metrics, history, stopping, bar)
            if stopping:
                break
        if history is not None:
            if self._saved_step != state.step:
                self._save(history, best=False)
            history.close()
        if bar is not None:
            bar.close()
        workers.barrier()
        finished = state.step >= self.total_steps
        return TrainResult(state.step, finished, state.num_skipped, state.best_loss, self.folder / "last")

    def _rate(self) -> float:
        config = self.config
        return learning_rate(
            self.state.step,
            base=config.learning_rate,
            warmup_steps=config.warmup_steps,
            total_steps=self.total_steps,
            decay=config.decay,
            final=config.final_learning_rate,
        )

    def _batches(self, step: int, last: int) -> Iterator[WeightedBatches]:
        """Yield the batches of each step up to the last, made one step ahead by a thread."""
        with ThreadPoolExecutor(1) as pool:
            ahead = pool.submit(self._make, step)
            while step < last:
                made = ahead.result()
                step += 1
                ahead = pool.submit(self._make, step)
                yield [(batch.to(self.workers.device), weight) for batch, weight in made]

    def _make(self, step: int) -> WeightedBatches:
        return self.dataset.micro_batches(step, self.workers.rank, self.workers.world_size)

    def _after_step(self, metrics: dict[str, float], history: History | None, stopping: bool, bar: Any) -> None:
        state, config = self.state, self.config
        self._clock.step()
        # a skipped step would turn the averages of a whole line into NaN
        if not metrics["skipped"]:
            for name, value in {**metrics, "count": 1.0}.items():
                state.window[name] = state.window.get(name, 0.0) + value
        ended = stopping or state.step == self.total_steps
        if state.step % config.log_every == 0 or state.step == self.total_steps:
            self._log(history, bar)
        elif bar is not None:
            bar.update(1)
        improved = False
        due = config.validate_every > 0 and (state.step % config.validate_every == 0 or state.step == self.total_steps)
        if due and self.validation_batches:
            improved = self._validate(history)
        late = time.monotonic() - self._saved_time > 60 * config.checkpoint_minutes
        if history is not None and (improved or ended or late or state.step % config.checkpoint_every == 0):
            self._save(history, improved)

    def _log(self, history: History | None, bar: Any) -> None:
        state = self.state
        count = state.window.pop("count", 0.0)
        state.window.pop("skipped", None)
        means = {name: value / count for name, value in state.window.items()} if count else {}
        state.window = {}
        row = {"kind": "train", "step": state.step, "epoch": state.step / self.dataset.steps_per_epoch, **means}
        row |= {"learning_rate": self._rate(), "num_skipped": state.num_skipped, **self._clock.read()}
        self._emit(history, row)
        if bar is not None:
            bar.update(1)
            bar.set_postfix_str(progress_words(row))

    def _validate(self, history: History | None) -> bool:
        state = self.state
        state.model.eval()
        with self._clock.paused(), state.ema.applied_to(state.model):
            losses = evaluate(
                state.model,
                self.validation_batches,
                self.dataset,
                self.config,
                self.workers,
                self.dataset.num_validation,
            )
        state.model.train()
        improved = losses["total"] < state.best_loss
        if improved:
            state.best_step, state.best_loss = state.step, losses["total"]
        with self._clock.paused():
            self._emit(history, {"kind": "validation", "step": state.step, **losses})
        return improved

    def _emit(self, history: History | None, row: dict[str, Any]) -> None:
        if history is not None:
            history.append(row)
            if self.on_log is not None:
                self.on_log(row, self.state)

    def _save(self, history: History, best: bool) -> None:
        history.sync()
        with self._clock.paused():
            save_checkpoint(self.folder, self.state, self.dataset.constants, self.run_config, best)
        self._saved_step, self._saved_time = self.state.step, time.monotonic()
