"""Flows: invertible maps between data and noise, and the exact densities that they give."""
