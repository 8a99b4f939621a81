"""Generative models: probability, built from networks. Nothing here knows of training programs or configs."""
