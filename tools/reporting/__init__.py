"""Parts of tools/report.py: from the records of runs to tables, figures and a page."""
