"""Selects the rendered grids that are fit for training: the paper's three filters and duplicates.

    grid ─▶ clips ─▶ scores ─▶ thresholds ─▶ duplicates ─▶ completeness ─▶ report

`filtering.filter_grids` runs them all over a folder.
"""
