"""Whether a relaxed framework is still the framework: volume, bonds, contacts."""

from dataclasses import dataclass

import numpy as np

from matgen.crystal.elements import COVALENT_RADII, SYMBOLS
from matgen.crystal.structure import Structure
from matgen.mof.metals import IS_METAL
from matgen.relaxation.uff_pairs import find_pairs
from matgen.relaxation.uff_terms import UffTerms

__all__ = ["CheckConfig", "Verdict", "has_clash", "verdict"]

_RADII = np.concatenate([COVALENT_RADII, np.full(119 - len(COVALENT_RADII), 1.7)])


@dataclass(frozen=True, kw_only=True)
class CheckConfig:
    """min_volume_ratio, max_volume_ratio: relaxed over input; outside, a framework has collapsed or exploded.

    max_stretch: longest bond over its natural length. min_contact: shortest distance between atoms that are neither
    bonded nor share a neighbour, over the sum of their covalent radii; nearer ones would count as bonded.
    min_metal_contact: the same where one of the two is a metal, whose secondary contacts are shorter.
    """

    min_volume_ratio: float = 0.6
    max_volume_ratio: float = 1.6
    max_stretch: float = 1.35
    min_contact: float = 1.1
    min_metal_contact: float = 0.85


@dataclass(frozen=True)
class Verdict:
    """status: "ok", "exploded", "collapsed", "bond_broken" or "clash". Ratios as in CheckConfig."""

    status: str
    reason: str
    longest_bond: float
    shortest_contact: float


def verdict(start: Structure, final: Structure, terms: UffTerms, config: CheckConfig) -> Verdict:
    """Compare a relaxed framework with its start and its bonds.

    Args:
        start: before.
        final: after, in the same cell and atom order.
        terms: the bonds and their natural lengths.
        config: limits.
    """
    if not (np.isfinite(final.lattice).all() and np.isfinite(final.frac_coords).all()):
        return Verdict("exploded", "a coordinate or a lattice entry is not finite", float("nan"), float("nan"))
    ratio = final.volume / start.volume
    if not config.min_volume_ratio <= ratio <= config.max_volume_ratio:
        word = "exploded" if ratio > 1 else "collapsed"
        return Verdict(word, f"the volume changed by a factor of {ratio:.3g}", float("nan"), float("nan"))
    stretch, bond = _longest_bond(final, terms)
    contact, allowed, pair = _shortest_contact(final, terms, config)
    if stretch > config.max_stretch:
        reason = f"the bond {bond} is {stretch:.3g} times its natural length"
        return Verdict("bond_broken", reason, stretch, contact)
    if contact < allowed:
        reason = f"{pair}, not bonded, are {contact:.3g} times the sum of their covalent radii apart"
        return Verdict("clash", reason, stretch, contact)
    return Verdict("ok", "", stretch, contact)


def has_clash(structure: Structure, terms: UffTerms, config: CheckConfig) -> bool:
    """Whether atoms that are not bonded are nearer than allowed."""
    contact, allowed, _ = _shortest_contact(structure, terms, config)
    return contact < allowed


def _longest_bond(final: Structure, terms: UffTerms) -> tuple[float, str]:
    if not terms.bonds.num_bonds:
        return 0.0, ""
    ratio = np.linalg.norm(terms.bonds.vectors(final), axis=1) / terms.bond_length
    worst = int(ratio.argmax())
    return float(ratio[worst]), _pair(terms, int(terms.bonds.first[worst]), int(terms.bonds.second[worst]))


def _shortest_contact(final: Structure, terms: UffTerms, config: CheckConfig) -> tuple[float, float, str]:
    """The contact that is shortest for its limit: ratio, limit and name."""
    positions = final.cart_coords
    radii = _RADII[terms.atomic_numbers]
    pairs = find_pairs(positions, final.lattice, terms, reach=2 * max(1.0, config.min_contact) * float(radii.max()))
    if not len(pairs.first):
        return float("inf"), config.min_contact, ""
    second = pairs.site_atom[pairs.second]
    sites = positions[pairs.site_atom] + pairs.site_image @ final.lattice
    distance = np.linalg.norm(sites[pairs.second] - positions[pairs.first], axis=1)
    ratio = distance / (radii[pairs.first] + radii[second])
    metal = IS_METAL[terms.atomic_numbers]
    allowed = np.where(metal[pairs.first] | metal[second], config.min_metal_contact, config.min_contact)
    worst = int((ratio / allowed).argmin())
    return float(ratio[worst]), float(allowed[worst]), _pair(terms, int(pairs.first[worst]), int(second[worst]))


def _pair(terms: UffTerms, i: int, j: int) -> str:
    return f"{SYMBOLS[terms.atomic_numbers[i]]}{i}-{SYMBOLS[terms.atomic_numbers[j]]}{j}"
