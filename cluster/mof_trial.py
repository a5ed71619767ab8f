"""Frameworks on trial while they are assembled: what does not survive relaxation, or has no pores, is not taken."""

import logging

import numpy as np
import torch

from matgen.errors import MissingDependencyError, StructureError
from matgen.evaluation.mof_checks import check_mof
from matgen.evaluation.porosity import PorosityWorker
from matgen.mof.assemble import Assembly
from matgen.mof.choices import Grade
from matgen.mof_config import TrialConfig
from matgen.relaxation.uff_relax import relax_frameworks

__all__ = ["FrameworkTrial"]

logger = logging.getLogger(__name__)


class FrameworkTrial:
    """Relaxes a framework, less strictly than the stage relax does, and looks for faults and pores."""

    def __init__(self, config: TrialConfig) -> None:
        self.config = config
        self.pores: PorosityWorker | None = None
        if config.least_pore_limiting_diameter > 0:
            try:
                self.pores = PorosityWorker(config.pores)
            except MissingDependencyError as error:
                logger.warning("pores are not part of a trial: %s", error)

    def __call__(self, assembly: Assembly) -> Grade:
        """Put a closed framework on trial; NOT_RUN where it is too large, or only its pores could not be measured."""
        if assembly.num_atoms > self.config.max_atoms:
            return Grade.NOT_RUN
        structure, bonds = assembly.to_structure()
        try:
            (relaxed,) = relax_frameworks([structure], [bonds], self.config.relax)
        except (StructureError, np.linalg.LinAlgError, torch.linalg.LinAlgError) as error:
            logger.debug("a framework could not be relaxed on trial: %s", error)
            return Grade.UNSTABLE
        if relaxed.status != "ok":
            return Grade.UNSTABLE
        if self.config.checks:
            results = check_mof(relaxed.structure, bonds).values()  # charges and pores: not run
            if any(result.status == "failed" for result in results):
                return Grade.FAULTY
        if not self.config.least_pore_limiting_diameter:
            return Grade.SOUND
        pores = self.pores.measure(relaxed.structure) if self.pores is not None else None
        if pores is None or pores.status != "ok":
            return Grade.NOT_RUN
        wide = pores.pore_limiting_diameter >= self.config.least_pore_limiting_diameter
        return Grade.SOUND if wide else Grade.NO_PORES
