"""Check that nerfstudio can run the method `fourdvd`: `python -m recon.nerfstudio`."""

import sys

from recon.nerfstudio.failures import sentences
from recon.nerfstudio.plugin import VERSION, check_nerfstudio

with sentences():
    check_nerfstudio()
sys.stdout.write(f"nerfstudio {VERSION} has the method fourdvd: ns-train fourdvd --help\n")
