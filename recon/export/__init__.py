"""Scenes as files of other programs: one module per format, each returns bytes."""
