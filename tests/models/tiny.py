"""What makes each model of configs/model small enough to be tested in a moment."""

TINY = {
    "ddpm": ["network.width=8", "schedule.steps=30", "sampler.steps=3", "estimator.t=2"],
}
"""Overrides of a training command, by the name of the model's file."""

ALSO = {
    "ddpm": {
        "label": ["conditioner=label", "conditioner.vector=4", "conditioner.dropout=0.1"],
        "points": ["data=toy2d"],
        "ddim": ["sampler=ddim"],
        "cosine x0": ["schedule=cosine", "model.prediction=x0"],
    },
}
"""Further overrides, added to those above, that make another case of the same model."""
