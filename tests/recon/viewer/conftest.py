from tests.recon.player.conftest import browser

__all__ = ["browser"]
