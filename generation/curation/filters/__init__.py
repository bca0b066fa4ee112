"""Filters of the rendered grids: image quality, motion, completeness, near-duplicates.

    grid ─▶ clips ─▶ scores ─▶ thresholds ─▶ duplicates ─▶ completeness ─▶ report

`filtering.filter_grids` runs them all over a folder.
"""
