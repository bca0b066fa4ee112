"""Which grids are fit for training: the paper's three filters and duplicates, with limits.

grid ─▶ clips ─▶ scores ─▶ limits ─▶ duplicates ─▶ completeness ─▶ report

clips              the object cut out of a view
image_quality      seen, sharp, of one piece: without a network
lpips              the same by LPIPS, with published weights
optical_flow       DIS of OpenCV, or RAFT
motion             how much it moves
duplicates         a hash of the renders, and who is near whom
completeness       the question to a multimodal language model, and its answer
local_judge        such a model of transformers, here
server_judge       such a model behind a server
published_tensors  files of published weights
scores             the numbers of a grid
scoring            a grid folder to its scores
thresholds         limits, and what is said of a grid outside them
records            what is known of each grid and still holds
verdicts           who is kept
filtering          the whole of it over a folder
report             the folder of results
report_page        its HTML
report_sheets      its sheets of small images
"""

from generation.curation.filters.filtering import FilterJob, check_report_folder, filter_data
from generation.curation.filters.report import Summary
from generation.curation.filters.scoring import ScoringSettings, score_grid
from generation.curation.filters.thresholds import Thresholds, decide

__all__ = [
    "FilterJob",
    "ScoringSettings",
    "Summary",
    "Thresholds",
    "check_report_folder",
    "decide",
    "filter_data",
    "score_grid",
]
