"""SymmCD on other data sets: named ones, and yours."""

from dataclasses import replace
from typing import TYPE_CHECKING

from experiments.symmcd_mp20 import symmcd_mp20

if TYPE_CHECKING:
    from matgen.config import Experiment


def symmcd_mpts52() -> "Experiment":
    """SymmCD on MPTS-52 (40,476 crystals of up to 52 atoms, split by time)"""
    return _on("symmcd_mpts52", "mpts_52")


def symmcd_perov5() -> "Experiment":
    """SymmCD on Perov-5 (18,928 perovskites of 5 atoms)"""
    return _on("symmcd_perov5", "perov_5")


def symmcd_carbon24() -> "Experiment":
    """SymmCD on Carbon-24 (10,153 carbon crystals of 6 to 24 atoms)"""
    return _on("symmcd_carbon24", "carbon_24")


def symmcd_custom() -> "Experiment":
    """SymmCD on your own crystals: --data names the file, folder or archive; --init-from fine-tunes"""
    return _on("symmcd_custom", "")


def _on(name: str, source: str) -> "Experiment":
    base = symmcd_mp20()
    return replace(base, name=name, preprocess=replace(base.preprocess, source=source))
