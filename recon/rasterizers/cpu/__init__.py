"""The CPU backend."""
def available(): return False
