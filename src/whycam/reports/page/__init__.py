"""Run folders -> ``report.html``, a page to browse: no network, opens from ``file://``."""

from whycam.reports.page.evaluation import known_values
from whycam.reports.page.writing import MOST_IN_ONE_FILE, PageResult, write_page

__all__ = ["MOST_IN_ONE_FILE", "PageResult", "known_values", "write_page"]
