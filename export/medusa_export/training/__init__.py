"""Distilled data, training, measuring and calibration of heads. Needs export/requirements-training.txt."""
