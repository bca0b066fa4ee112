"""Feed-forward lifting: the surfaces along the rays of one view, predicted from its images."""
