"""Generators, from noise to data, and critics, from data to judgements."""
