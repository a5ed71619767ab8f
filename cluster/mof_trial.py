"""Frameworks on trial while they are assembled: what does not survive relaxation, or has no pores, is not taken."""

import logging
from enum import IntEnum

from matgen.errors import MissingDependencyError
from matgen.evaluation.mof_checks import check_mof
from matgen.evaluation.porosity import PorosityWorker
from matgen.mof.assemble import Assembly
from matgen.mof_config import TrialConfig
from matgen.relaxation.uff_relax import relax_frameworks

__all__ = ["FrameworkTrial", "Grade"]

logger = logging.getLogger(__name__)


class Grade(IntEnum):
    """What a trial finds, the better the lower."""

    SOUND = 0
    NO_PORES = 1
    FAULTY = 2
    UNSTABLE = 3


class FrameworkTrial:
    """Relaxes a framework, less strictly than the stage relax does, and looks for faults and pores."""

    def __init__(self, config: TrialConfig) -> None:
        self.config = config
        self.pores: PorosityWorker | None = None
        if config.least_pore_limiting_diameter > 0:
            try:
                self.pores = PorosityWorker(config.pores)
            except MissingDependencyError as error:
                logger.warning("frameworks without pores stand their trial: %s", error)

    def __call__(self, assembly: Assembly) -> Grade:
        """Put a closed framework on trial; one that is too large for that is SOUND."""
        if assembly.num_atoms > self.config.max_atoms:
            return Grade.SOUND
        structure, bonds = assembly.to_structure()
        (relaxed,) = relax_frameworks([structure], [bonds], self.config.relax)
        if relaxed.status != "ok":
            return Grade.UNSTABLE
        if self.config.checks:
            results = check_mof(relaxed.structure, bonds).values()  # charges and pores: not run
            if any(result.status == "failed" for result in results):
                return Grade.FAULTY
        if self.pores is None:
            return Grade.SOUND
        diameter = self.pores.measure(relaxed.structure).pore_limiting_diameter
        return Grade.SOUND if diameter >= self.config.least_pore_limiting_diameter else Grade.NO_PORES
