"""The grid on disk: posed images of a moving object, V views × T frames. Needs no torch."""
