"""Free-view videos of a scene: camera paths, and their rendering to files."""
