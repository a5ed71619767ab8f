"""What a trial may cost, and where it is judged: at equal cost, not at equal steps of differently expensive models."""

from dataclasses import dataclass
from typing import Literal

from matgen.errors import ConfigError

Unit = Literal["crystals", "seconds"]


@dataclass(frozen=True, kw_only=True)
class BudgetConfig:
    """Cost of a whole trial, and the rungs at which trials are compared.

    Attributes:
        unit: `crystals` (rows seen in training, whatever the batch) or `seconds` of training: of the processor on a
            CPU, of the clock on a GPU; measured against the sweep's own experiment, see `sweeps.speed`.
        amount: of a trial that is never stopped.
        num_rungs: judgements of such a trial, the last one at its end.
        reduction: ratio of the costs of two rungs; one in so many trials goes on to the next.
    """

    unit: Unit = "crystals"
    amount: float = 20_000
    num_rungs: int = 3
    reduction: int = 3

    def __post_init__(self) -> None:
        if not 0 < self.amount < float("inf"):
            raise ConfigError(f"the budget of a trial must be above 0, not {self.amount}")
        if self.num_rungs < 1 or self.reduction < 2:
            raise ConfigError(
                f"need at least 1 rung and a reduction of at least 2, not {self.num_rungs} and {self.reduction}"
            )

    @property
    def costs(self) -> tuple[float, ...]:
        """Cost at each rung, in `unit`."""
        return tuple(self.amount / self.reduction ** (self.num_rungs - 1 - rung) for rung in range(self.num_rungs))

    def steps(self, batch_size: int, seconds_per_step: float | None = None) -> tuple[int, ...]:
        """Return the optimiser steps at each rung.

        Args:
            batch_size: rows of a step.
            seconds_per_step: measured; needed where the unit is seconds.
        """
        if self.unit == "seconds":
            assert seconds_per_step is not None, "a budget in seconds needs the speed"
            first = self.costs[0] / seconds_per_step
        else:
            first = self.costs[0] / batch_size
        base = max(1, round(first))
        return tuple(base * self.reduction**rung for rung in range(self.num_rungs))

    def even(self, num_rungs: int) -> "EvenBudget":
        """The same cost in equal parts, for populations that change on the way."""
        return EvenBudget(unit=self.unit, amount=self.amount, num_rungs=num_rungs)


@dataclass(frozen=True, kw_only=True)
class EvenBudget(BudgetConfig):
    """Rungs at equal distances."""

    @property
    def costs(self) -> tuple[float, ...]:
        """Cost at each rung, in `unit`."""
        return tuple(self.amount * (rung + 1) / self.num_rungs for rung in range(self.num_rungs))

    def steps(self, batch_size: int, seconds_per_step: float | None = None) -> tuple[int, ...]:
        """Return the optimiser steps at each rung, see `BudgetConfig.steps`."""
        base = super().steps(batch_size, seconds_per_step)[0]
        return tuple(base * (rung + 1) for rung in range(self.num_rungs))
