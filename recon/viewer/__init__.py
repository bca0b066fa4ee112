"""The viewer: a server on this machine that sends the player and what it shows.

scene folder, checkpoints of a fit, PLY files ──sources──▶ packed scene ──server──▶ the page
"""
