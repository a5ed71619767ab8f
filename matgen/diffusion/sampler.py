"""From noise to data: the loop over t, with few calls of the denoiser or the predictor-corrector of the paper."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from matgen.diffusion.fields import Context, Fields, Prediction
from matgen.diffusion.joint import JointProcess, ReverseConfig
from matgen.diffusion.noise import CounterNoise
from matgen.shapes import Int

Denoiser = Callable[[Fields, Tensor], Prediction]
Progress = Callable[[int, int, Fields], None]
Adjustment = Callable[[Fields, Fields, Prediction, Tensor, Tensor], Fields]


@dataclass(frozen=True, kw_only=True)
class SamplerConfig:
    """Settings of run_sampler. The paper's sampler is num_steps = 1000, corrector_steps = 1.

    `relocate_below` (Å, 0: never) draws an orbit's coordinates anew, uniformly, where the denoiser's estimate of the
    clean crystal has it closer than this to another orbit, at t within `relocate_from`..`relocate_until` of T.
    `site_tolerance` (Å, 0: the network alone decides) weighs each site symmetry that an orbit may take by a Gaussian of
    how far the estimate of the orbit is from positions that have it, wider by the noise of the coordinates; those whose
    orbit would meet its own copies are left out. It acts in models that draw whole codes.
    """

    num_steps: int = 100
    grid_power: float = 1.0  # 1: uniform in t; 2: quadratic, denser near t = 0
    corrector_steps: int = 0  # Langevin steps of the coordinates before each predictor step
    corrector_step_size: float = 1e-5
    relocate_below: float = 0.0
    relocate_from: float = 0.85
    relocate_until: float = 0.4
    site_tolerance: float = 0.0
    reverse: ReverseConfig = field(default_factory=ReverseConfig)

    def __post_init__(self) -> None:
        if self.num_steps < 1 or self.corrector_steps < 0:
            raise ValueError(
                f"need num_steps >= 1 and corrector_steps >= 0, not {self.num_steps}, {self.corrector_steps}"
            )
        if self.grid_power <= 0:
            raise ValueError(f"grid_power must be above 0, not {self.grid_power}")
        for name in ("relocate_below", "site_tolerance"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be at least 0, not {getattr(self, name)}")

    @property
    def num_calls(self) -> int:
        """Calls of the denoiser."""
        return self.num_steps * (1 + self.corrector_steps)


def run_sampler(
    denoise: Denoiser,
    process: JointProcess,
    context: Context,
    noise: CounterNoise,
    config: SamplerConfig,
    progress: Progress | None = None,
    adjust: Adjustment | None = None,
) -> Fields:
    """Samples of the joint distribution.

    Args:
        denoise: prediction from a state and its t [B].
        process: the joint process that the denoiser was trained on.
        context: masks and priors.
        noise: one row per crystal.
        config: steps and corrections.
        progress: called after every step with the steps done, their number, and the state.
        adjust: the state at s in place of the one stepped to, from that state, the state at t, its prediction, t and s.

    Returns:
        the state at t = 0.

    Raises:
        ValueError: more steps are asked for than the process has.

    Source: Levy et al. 2025 (arXiv 2502.03638), algorithm 2, for 1000 steps and one correction.
    """
    state = process.prior_sample(context, noise)
    grid = time_grid(config.num_steps, process.num_steps, config.grid_power).tolist()
    num_rows = len(context.mask)
    for done, (t_now, t_next) in enumerate(itertools.pairwise(grid), start=1):
        t = torch.full((num_rows,), t_now, dtype=torch.int64, device=context.mask.device)
        for repeat in range(config.corrector_steps):
            prediction = denoise(state, t)
            state = process.correct_coords(state, prediction, t, context, noise, config.corrector_step_size, repeat)
        s = torch.full_like(t, t_next)
        prediction = denoise(state, t)
        stepped = process.reverse_step(state, prediction, t, s, context, noise, config.reverse)
        state = stepped if adjust is None else adjust(stepped, state, prediction, t, s)
        if progress is not None:
            progress(done, config.num_steps, state)
    return state


def time_grid(num_steps: int, num_train_steps: int, power: float = 1.0) -> Int[Tensor, "N"]:
    """The values of t that a sampler visits.

    Args:
        num_steps: reverse steps, at most num_train_steps.
        num_train_steps: T.
        power: t is about T (i / num_steps)^power.

    Returns:
        num_steps + 1 strictly decreasing integers from T to 0.

    Raises:
        ValueError: num_steps is not in 1..T.
    """
    if not 1 <= num_steps <= num_train_steps:
        raise ValueError(
            f"a sampler of {num_train_steps} training steps can take 1 to {num_train_steps}, not {num_steps}"
        )
    index = torch.arange(num_steps + 1)
    grid = (num_train_steps * (index.double() / num_steps) ** power).round().long()
    # Strictly increasing: where the curve is flatter than one integer per step, count; near T, leave room to count.
    grid = (grid - index).clamp(min=0).cummax(0).values + index
    return torch.minimum(grid, num_train_steps - num_steps + index).flip(0)
