"""Distributions of data, whose parameters a network gives: the last step of decoders and autoregressive models."""
