"""Medusa heads: the frozen backbone in torch, self-distilled data, training, evaluation and the checkpoint format."""
