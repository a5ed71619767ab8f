"""Of the orientations that close a framework, find those with the best contacts."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from matgen.mof.assembly.contacts import Surroundings, contact_energy, total_energy
from matgen.mof.assembly.flips import about, free_turns

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matgen.mof.assembly.chains import Chain
    from matgen.mof.building_block import BuildingBlock

__all__ = ["SettleConfig", "settle", "turns_of"]


@dataclass(frozen=True, kw_only=True)
class SettleConfig:
    """How the turns that closing leaves free are searched.

    Args:
        solutions: closed solutions of different pairing that are looked at.
        starts: of each; the first begins as closed, the others at random. None (0) takes the best solution as it is.
        sweeps: over the blocks.
        strain_weight: energy (one good contact is 1) of 1 Å^2 mean squared misfit per connection.
        max_options: turns of one block at most.
        chain_step: degrees, of turning straight chains.
    """

    solutions: int = 4
    starts: int = 4
    sweeps: int = 4
    strain_weight: float = 100.0
    max_options: int = 24
    chain_step: float = 10.0


def turns_of(blocks: "Sequence[BuildingBlock]", config: SettleConfig) -> list[np.ndarray]:
    """Free turns [O, 3, 3] of every block."""
    return [free_turns(block)[: config.max_options] for block in blocks]


def settle(
    around: Surroundings,
    blocks: "Sequence[BuildingBlock]",
    rotations: np.ndarray,
    turns: "Sequence[np.ndarray]",
    chains: "Sequence[Chain]",
    rng: np.random.Generator,
    config: SettleConfig,
) -> tuple[np.ndarray, float]:
    """Choose among the free turns of all blocks, one block after the other, until none improves.

    Args:
        around: what does not turn.
        blocks: of the framework.
        rotations: [K, 3, 3], closed.
        turns: free turns of each block, the identity first.
        chains: that may turn as a whole.
        rng: for the order and the random starts.
        config: how long.

    Returns:
        rotations [K, 3, 3], and the energy of all contacts.
    """
    rotations = _turn_chains(around, blocks, rotations, chains, np.arange(0.0, 360.0, config.chain_step))
    free = [k for k, turn in enumerate(turns) if len(turn) > 1]
    options = [np.einsum("ij,ojk,nk->oni", rotations[k], turns[k], block.cart_coords) for k, block in enumerate(blocks)]
    best_choice, best = np.zeros(len(blocks), dtype=int), np.inf
    seen: set[bytes] = set()
    for start in range(config.starts if free else 1):
        choice = np.zeros(len(blocks), dtype=int)
        if start:
            choice[free] = [rng.integers(len(turns[k])) for k in free]
        cart = np.concatenate([options[k][choice[k]] + around.centres[k] for k in range(len(blocks))])
        stale = np.ones(len(blocks), dtype=bool)
        for _ in range(config.sweeps):
            if not _sweep(around, options, rng.permutation(free), choice, cart, stale):
                break
        if choice.tobytes() in seen:  # most starts end where an earlier one did
            continue
        seen.add(choice.tobytes())
        total = float(total_energy(around, cart[None])[0])
        if total < best - 1e-6:
            best_choice, best = choice, total
    chosen = np.stack([rotations[k] @ turns[k][best_choice[k]] for k in range(len(blocks))])
    if chains:
        for width in (config.chain_step, config.chain_step / 4):
            chosen = _turn_chains(around, blocks, chosen, chains, np.linspace(-width, width, 9))
    return chosen, best


def _turn_chains(
    around: Surroundings,
    blocks: "Sequence[BuildingBlock]",
    rotations: np.ndarray,
    chains: "Sequence[Chain]",
    angles: np.ndarray,
) -> np.ndarray:
    """Turn each chain by the best of `angles` (degrees), one after the other."""
    rotations = rotations.copy()
    for chain in chains:
        turns = np.stack([about(chain.axis, angle) for angle in np.deg2rad(angles)])
        carts = []
        for k, block in enumerate(blocks):
            turned = (turns @ rotations[k] if k in chain.blocks else rotations[k][None]) @ block.cart_coords.T
            carts.append(np.broadcast_to(turned.mT + around.centres[k], (len(turns), block.num_atoms, 3)))
        best = turns[int(total_energy(around, np.concatenate(carts, axis=1)).argmin())]
        rotations[chain.blocks] = best @ rotations[chain.blocks]
    return rotations


def _sweep(
    around: Surroundings,
    options: "Sequence[np.ndarray]",
    order: np.ndarray,
    choice: np.ndarray,
    cart: np.ndarray,
    stale: np.ndarray,
) -> bool:
    """Turn each block to its best; says whether any turned.

    `choice` and `cart` are changed in place, and `stale`: blocks near which something has turned since their turn.
    """
    turned = False
    for k in order:
        if not stale[k]:
            continue
        stale[k] = False
        energy = contact_energy(around, k, options[k], cart)
        best = int(energy.argmin())
        if energy[best] < energy[choice[k]] - 1e-6:
            choice[k], turned = best, True
            stale[around.near[k][0]] = True
            cart[around.start[k] : around.start[k + 1]] = options[k][best] + around.centres[k]
    return turned
