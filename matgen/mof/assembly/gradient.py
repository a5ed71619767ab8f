"""The published way, as a baseline: L-BFGS on an annealed sum of exponentials, one random start, rotations only."""

from dataclasses import dataclass

import numpy as np

from matgen.geometry.rotations import random_rotations
from matgen.mof.assembly.matching import match
from matgen.mof.assembly.pairs import PairTable
from matgen.mof.assembly.search import Solution

__all__ = ["GradientConfig", "gradient_start", "objective"]


@dataclass(frozen=True, kw_only=True)
class GradientConfig:
    """Widths (Å) of the stages, iterations of each, and the distance (Å) at which a pair is closed."""

    sigmas: tuple[float, ...] = (3.0, 1.65, 0.3)
    iterations: int = 200
    closed_at: float = 0.5


def objective(table: PairTable, rotations: np.ndarray, sigma: float) -> tuple[float, np.ndarray]:
    """Minus the mean over connections of the sum of exp(-d / sigma) over their candidates.

    Args:
        table: candidate pairs.
        rotations: [K, 3, 3].
        sigma: Å.

    Returns:
        the value, and its gradient [K, 3] by rotation vectors applied after the rotations.

    Source: Fu et al., MOFDiff, ICLR 2024, section 3.4; here in Cartesian space and over metal-linker pairs.
    """
    arm = np.einsum("cij,cj->ci", rotations[table.block], table.arm)
    gap = arm[table.metal] - table.offset - arm[table.linker]
    distance = np.sqrt((gap * gap).sum(1) + 1e-12)
    weight = np.exp(-distance / sigma) * 2.0 / len(table.block)
    pull = (weight / (sigma * distance))[:, None] * gap  # gradient by the metal's point
    gradient = np.zeros((len(rotations), 3))
    np.add.at(gradient, table.block[table.metal], np.cross(arm[table.metal], pull))
    np.add.at(gradient, table.block[table.linker], -np.cross(arm[table.linker], pull))
    return -float(weight.sum()), gradient


def gradient_start(table: PairTable, rng: np.random.Generator, config: GradientConfig) -> Solution:
    """One start of the baseline.

    Args:
        table: candidate pairs.
        rng: of the random orientations.
        config: stages.
    """
    from scipy.optimize import minimize
    from scipy.spatial.transform import Rotation

    count = int(table.block.max()) + 1
    rotations = random_rotations(count, rng).numpy()
    for sigma in config.sigmas:
        base = rotations

        def value(vector: np.ndarray, base: np.ndarray = base, sigma: float = sigma) -> tuple[float, np.ndarray]:
            turn = Rotation.from_rotvec(vector.reshape(-1, 3))
            energy, gradient = objective(table, turn.as_matrix() @ base, sigma)
            return energy, _by_vector(vector.reshape(-1, 3), gradient).ravel()

        found = minimize(
            value, np.zeros(3 * count), jac=True, method="L-BFGS-B", options={"maxiter": config.iterations}
        )
        rotations = Rotation.from_rotvec(found.x.reshape(-1, 3)).as_matrix() @ base
    rows, distance = match(table, rotations, direction=0.0)
    num_open = 2 * int((distance >= config.closed_at).sum()) if len(rows) else len(table.block)
    rms = float(np.sqrt((distance**2).mean())) if len(rows) else float("inf")
    return Solution(rotations, np.zeros((count, 3)), num_open, num_open, rms, rows)


def _by_vector(vector: np.ndarray, gradient: np.ndarray) -> np.ndarray:
    """Gradient by the rotation vector itself: the transposed left Jacobian of SO(3) on the gradient there."""
    angle = np.linalg.norm(vector, axis=1, keepdims=True)
    safe = np.maximum(angle, 1e-8)
    first = np.where(angle < 1e-4, 0.5 - angle**2 / 24, (1 - np.cos(safe)) / safe**2)
    second = np.where(angle < 1e-4, 1.0 / 6 - angle**2 / 120, (safe - np.sin(safe)) / safe**3)
    once = np.cross(vector, gradient)
    return gradient - first * once + second * np.cross(vector, once)
