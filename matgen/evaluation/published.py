"""Figures that others have published, with the protocol each belongs to. Never computed here."""

from dataclasses import dataclass

SYMMCD_PAPER = "Levy et al., SymmCD, ICLR 2025 (arXiv 2502.03638)"
_PROTOCOL = (
    "MP-20; 10,000 samples (templates, d_sg), 1,000 for the proxy columns; mean and standard deviation of 5 seeds; "
    "valid samples against the test set; official splits"
)


@dataclass(frozen=True, kw_only=True)
class PublishedRow:
    """One model's row; shares are 0..1, None where not published. `deviation`: standard deviation over seeds."""

    model: str
    dataset: str
    source: str
    protocol: str
    values: dict[str, float]
    deviation: dict[str, float]
    is_main: bool = False


def _row(model: str, values: tuple[float | None, ...], deviation: tuple[float | None, ...]) -> PublishedRow:
    names = PUBLISHED_COLUMNS
    return PublishedRow(
        model=model, dataset="MP-20", source=SYMMCD_PAPER, protocol=_PROTOCOL, is_main=model == "SymmCD",
        values={n: v for n, v in zip(names, values, strict=True) if v is not None},
        deviation={n: v for n, v in zip(names, deviation, strict=True) if v is not None},
    )  # fmt: skip


PUBLISHED_COLUMNS = (
    "structure_valid",
    "composition_valid",
    "coverage_recall",
    "coverage_precision",
    "d_density_valid",
    "d_elements_valid",
    "d_sg",
    "templates_unique",
    "templates_in_train",
    "templates_new",
    "sun",
)
"""Names of our metrics that the published columns are set beside (`Summary[name]`)."""

# Tables 1 to 3 of the paper; S.U.N. after CHGNet relaxation against the Materials Project hull.
PUBLISHED = (
    _row("CDVAE", (0.9997, 0.8561, 0.9931, 0.9947, 0.70, 1.28, 0.69, 797, 0.287, 568, 0.0426),
         (0.0003, 0.0120, 0.0006, 0.0006, 0.10, 0.06, 0.007, None, None, None, None)),
    _row("DiffCSP", (0.9743, 0.8250, 0.9955, 0.9873, 0.18, 0.56, 0.44, 1347, 0.432, 764, 0.0892),
         (0.0310, 0.0134, 0.0008, 0.0134, 0.08, 0.07, 0.009, None, None, None, None)),
    _row("DiffCSP++", (0.9944, 0.8650, 0.9972, 0.9961, 0.12, 0.33, 0.16, 1905, 0.942, 110, 0.0862),
         (0.0006, 0.0085, 0.0006, 0.0008, 0.04, 0.04, 0.009, None, None, None, None)),
    _row("FlowMM", (0.9667, 0.8325, 0.9949, 0.9958, 0.23, 0.08, 0.50, 1291, 0.417, 753, 0.0649),
         (0.0057, 0.0013, 0.0005, 0.0010, 0.10, 0.02, 0.011, None, None, None, None)),
    _row("SymmCD", (0.9034, 0.8581, 0.9958, 0.9776, 0.23, 0.40, 0.164, 2794, 0.408, 1654, 0.0686),
         (0.0339, 0.0087, 0.0008, 0.0085, 0.06, 0.06, 0.003, None, None, None, None)),
)  # fmt: skip

TRAIN_TEMPLATES = 3318
"""Distinct templates of the 27,136 crystals of MP-20's official training split, from the same paper."""

CAVEATS = (
    "The published S.U.N. figures use CHGNet and the Materials Project hull; one from a local hull is not comparable.",
    "The published coverage scales Magpie features by constants that are not at hand.",
    "The published d_sg merges groups 229 and 230 and detects the test set's groups at another symprec.",
    "Template letters come from another program than ours: compare counts, not templates.",
)
"""Printed under the table that sets our row beside the published ones."""
