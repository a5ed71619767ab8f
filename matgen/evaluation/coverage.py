"""Coverage recall and precision: does each test crystal have a sample near it, and each sample a test crystal?"""

from dataclasses import dataclass

import numpy as np
from scipy.spatial.distance import cdist

from matgen.evaluation.fingerprints import Fingerprints


@dataclass(frozen=True, kw_only=True)
class CoverageConfig:
    """num_samples: samples compared (the first ones of the table). Cut-offs in units of the fingerprints: MP-20's."""

    num_samples: int = 1000
    structure_cutoff: float = 0.4
    composition_cutoff: float = 10.0

    def protocol(self) -> str:
        """One line for the table."""
        return (
            f"first {self.num_samples} samples drawn, valid or not; CrystalNN 'ops' cut-off {self.structure_cutoff}, "
            f"Magpie cut-off {self.composition_cutoff}, nearest in each independently (as in CDVAE); Magpie features "
            "standardised by the training set given, not by CDVAE's published constants, which are not at hand"
        )


@dataclass(frozen=True)
class MagpieScaler:
    """Mean and standard deviation of each Magpie feature over a training set."""

    mean: np.ndarray
    std: np.ndarray

    @classmethod
    def fit(cls, composition: np.ndarray) -> "MagpieScaler":
        """From Magpie features float64[n, 132] of a training set; NaN entries are left out."""
        std = np.nanstd(composition, axis=0)
        return cls(np.nanmean(composition, axis=0), np.where(std > 0, std, 1.0))

    def transform(self, composition: np.ndarray) -> np.ndarray:
        """Standardised features; unknown ones become 0, the mean."""
        return np.nan_to_num((composition - self.mean) / self.std, nan=0.0)


@dataclass(frozen=True)
class Coverage:
    """covered_reference: bool[m], whether each reference crystal has a sample near it (its mean is the recall).

    covering_sample: bool[n], whether each sample has a reference crystal near it (its mean is the precision); a sample
    without a fingerprint is not near anything.
    """

    covered_reference: np.ndarray
    covering_sample: np.ndarray


def coverage(
    samples: Fingerprints, reference: Fingerprints, scaler: MagpieScaler, config: CoverageConfig | None = None
) -> Coverage:
    """Recall and precision, per crystal.

    Args:
        samples: of all samples drawn, NaN rows for failed ones.
        reference: of the test set; crystals without a fingerprint are left out there.
        scaler: of the training set's Magpie features.
        config: cut-offs.

    Source: Xie et al. 2022 (CDVAE), appendix B; the two minima are taken independently, as in its evaluation.
    """
    config = config or CoverageConfig()
    known = samples.usable
    targets = reference.usable
    covering = np.zeros(len(samples), dtype=bool)
    if not known.any() or not targets.any():
        return Coverage(np.zeros(int(targets.sum()), dtype=bool), covering)
    structure = cdist(samples.structure[known], reference.structure[targets])
    composition = cdist(scaler.transform(samples.composition[known]), scaler.transform(reference.composition[targets]))
    covering[known] = (structure.min(1) <= config.structure_cutoff) & (composition.min(1) <= config.composition_cutoff)
    covered = (structure.min(0) <= config.structure_cutoff) & (composition.min(0) <= config.composition_cutoff)
    return Coverage(covered, covering)
