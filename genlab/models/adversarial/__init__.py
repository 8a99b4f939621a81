"""Adversarial models: a generator that makes data of noise, and a critic that tells them from data."""
