"""Autoregressive models: each place of a datum is drawn given those before it."""
