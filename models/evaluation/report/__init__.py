"""The report's pages.

``page``     results → report.html and report.md (report.html.jinja, report.md.jinja)
``plots``    results → SVG
``targets``  the levels that models are to reach, beside what was measured

report.md is the report of the last full run.
"""
