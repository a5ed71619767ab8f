"""Random numbers that are a function of (row seed, step, stream, index) alone.

A row is a crystal. Its numbers do not depend on which other crystals share its batch, on padding, on the number of
workers, or on what was drawn before. Noise shaped [M, c] has index m * c + i, so that a larger M only adds numbers.
"""

import math

import torch
from torch import Tensor

from matgen.shapes import Float, Int


def _signed(value: int) -> int:
    """The int64 with the bits of an unsigned 64-bit constant."""
    return value - (1 << 64) if value >= 1 << 63 else value


# Constants of splitmix64 (Steele, Lea and Flood, 2014; the mixer is variant 13 of Stafford).
_GAMMA = _signed(0x9E3779B97F4A7C15)
_MIX_1 = _signed(0xBF58476D1CE4E5B9)
_MIX_2 = _signed(0x94D049BB133111EB)
_STEP_SALT = _signed(0xD1B54A32D192ED03)
_STREAM_SALT = _signed(0x8CB92BA72F3D8DD7)


class CounterNoise:
    """Stateless noise for a batch of rows; the same call returns the same numbers.

    Args:
        seeds: one seed per row, any int64, from `row_seed`.
    """

    def __init__(self, seeds: Int[Tensor, "B"]) -> None:
        if seeds.dtype != torch.int64 or seeds.ndim != 1:
            raise ValueError(f"seeds must be int64 [B], not {seeds.dtype} {tuple(seeds.shape)}")
        self.seeds = seeds

    @property
    def device(self) -> torch.device:
        """Where the numbers are made."""
        return self.seeds.device

    def uniform(
        self,
        step: int | Int[Tensor, "B"],
        stream: int,
        shape: tuple[int, ...] = (),
        dtype: torch.dtype = torch.float64,
    ) -> Float[Tensor, "B ..."]:
        """Uniform numbers in [0, 1).

        Args:
            step: any integer, for all rows or one per row; usually the diffusion step t.
            stream: what the numbers are for; different streams are independent.
            shape: shape per row; rows are padded at the end of its first axis only.
            dtype: float64 (53 random bits) or float32 (24).

        Returns:
            numbers of shape [B, *shape].
        """
        bits = 53 if dtype == torch.float64 else 24
        return (_shift_right(self._hash(step, stream, shape), 64 - bits)).to(dtype).mul_(2.0**-bits)

    def normal(
        self,
        step: int | Int[Tensor, "B"],
        stream: int,
        shape: tuple[int, ...] = (),
        dtype: torch.dtype = torch.float32,
    ) -> Float[Tensor, "B ..."]:
        """Standard normal numbers (Box and Muller, one per index); arguments as in `uniform`."""
        bits = self._hash(step, stream, shape)
        # Worked out in float64 so that the rounded float32 does not depend on how the device vectorises log and cos.
        radius = _shift_right(bits, 32).double().add_(0.5).mul_(2.0**-32).log_().mul_(-2).sqrt_()
        angle = bits.bitwise_and_(0xFFFFFFFF).double().mul_(2 * math.pi * 2.0**-32)
        return angle.cos_().mul_(radius).to(dtype)

    def _hash(self, step: int | Tensor, stream: int, shape: tuple[int, ...]) -> Int[Tensor, "B ..."]:
        offset = step * _STEP_SALT if isinstance(step, Tensor) else _wrap(step * _STEP_SALT)
        key = _mix(_mix(self.seeds + offset) + _wrap((stream + 1) * _STREAM_SALT))
        index = torch.arange(1, math.prod(shape) + 1, device=self.device) * _GAMMA
        return _mix_(key[:, None] + index).reshape(len(self.seeds), *shape)


def row_seed(run_seed: int, sample_id: Int[Tensor, "B"], *, epoch: int = 0) -> Int[Tensor, "B"]:
    """Seeds of rows as a function of the run's seed and the rows' ids, and of the epoch in training.

    Args:
        run_seed: the seed of the run, any Python integer below 2^64.
        sample_id: ids of the rows.
        epoch: visits of the same row get different seeds.

    Returns:
        int64 seeds.
    """
    run = _mix(torch.tensor(_wrap(run_seed), dtype=torch.int64) + _GAMMA)
    run = _mix(run + _wrap((epoch + 1) * _STREAM_SALT)).to(sample_id.device)
    return _mix(run ^ _mix(sample_id.long() * _GAMMA + _STEP_SALT))


def _wrap(value: int) -> int:
    return _signed(value & 0xFFFFFFFFFFFFFFFF)


def _shift_right(x: Int[Tensor, "..."], bits: int) -> Int[Tensor, "..."]:
    """Logical shift: int64 shifts copy the sign bit, which is masked out again."""
    return (x >> bits).bitwise_and_((1 << (64 - bits)) - 1)


def _mix(x: Int[Tensor, "..."]) -> Int[Tensor, "..."]:
    return _mix_(x.clone())


def _mix_(x: Int[Tensor, "..."]) -> Int[Tensor, "..."]:
    """The finaliser of splitmix64, in place; int64 products wrap around on CPU and GPU."""
    x.bitwise_xor_(_shift_right(x, 30)).mul_(_MIX_1)
    x.bitwise_xor_(_shift_right(x, 27)).mul_(_MIX_2)
    return x.bitwise_xor_(_shift_right(x, 31))
