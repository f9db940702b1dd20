"""From a run folder to what a paper needs: figure, caption, methods text, references, class means, a page.

Reads run folders alone: no model is loaded, and no picture but those in the folder is opened.
"""

from whycam.reports.options import PARTS, ReportOptions, ReportSummary
from whycam.reports.report import write_report

__all__ = ["PARTS", "ReportOptions", "ReportSummary", "write_report"]
