"""One self-contained page about one or several runs: yields, scores, distributions, crystals, provenance."""

from matgen.evaluation.report.page import ReportConfig, build_report

__all__ = ["ReportConfig", "build_report"]
