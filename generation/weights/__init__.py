"""Files of network weights: which are published, where they are, what they hold."""
