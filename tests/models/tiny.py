"""What makes each model of configs/model small enough to be tested in a moment."""

# A random network that does not change from one of 1,000 steps to the next, so that a solver takes few on its way.
SLOW = "network.embedding_scale=0.01"

TINY = {
    "classifier": ["network.width=8", "schedule.steps=30"],
    "ddpm": ["network.width=8", "schedule.steps=30", "sampler.steps=3", "estimator.t=2"],
    "dpm": ["network.width=8", "schedule.steps=20", "sampler.steps=3", "estimator.t=2"],
    "dpm_binomial": [
        "data=heartbeat",
        "network.width=8",
        "schedule.steps=20",
        "sampler.steps=3",
        "estimator.t=2",
    ],
    "edm": ["network.width=8", "sampler.steps=3"],
    "flow_matching": ["network.width=8", SLOW, "sampler.rtol=1e-6", "sampler.atol=1e-6"],
    "iddpm": ["network.width=8", "schedule.steps=30", "sampler.steps=3", "estimator.t=2"],
    "ncsn": ["network.width=8", "sampler.steps=3", "sampler.repeats=2", "estimator.t=2"],
    "ncsnv2": ["network.width=8", "schedule.steps=8", "schedule.high=9.4", "sampler.repeats=2", "estimator.t=2"],
    "rectified_flow": ["network.width=8", SLOW, "sampler.steps=3"],
    "score_sde_subvp": ["network.width=8", SLOW, "sampler.steps=3"],
    "score_sde_ve": ["network.width=8", "sampler.steps=3"],
    "score_sde_vp": ["network.width=8", SLOW, "sampler.steps=3"],
    "vdm": ["network.width=8", "schedule.hidden=8", "sampler.steps=3", "estimator.t=2"],
}
"""Overrides of a training command, by the name of the model's file."""

ALSO = {
    "classifier": {
        "digits": ["network=encoder_digits", "schedule=cosine"],
        "points": ["data=toy2d", "network=mlp_classes"],
    },
    "ddpm": {
        "label": ["conditioner=label", "conditioner.vector=4", "conditioner.dropout=0.1"],
        "points": ["data=toy2d"],
        "ddim": ["sampler=ddim"],
        "cosine x0": ["schedule=cosine", "model.prediction=x0"],
        "likelihood": ["weighting=likelihood", "times=loss_aware", "times.history=1"],
    },
    "dpm": {
        "points": ["data=toy2d"],
        "tuned": ["schedule.learn=false"],
    },
    "dpm_binomial": {
        "label": ["conditioner=label", "conditioner.vector=4", "conditioner.dropout=0.1"],
        "cosine": ["schedule=cosine", "times=low_discrepancy", "estimator.t=all"],
        "images": ["data=binarized_mnist", "network.multipliers=[1,2]", "network.blocks=1", "network.attention=[]"],
    },
    "edm": {
        "points": ["data=toy2d", "estimator=ode"],
        "v on vp": ["schedule=vp", "model.prediction=v", SLOW],
    },
    "iddpm": {
        "bound": ["weighting=none", "times=loss_aware", "model.bound_weight=1"],
        "linear x0": ["schedule=linear", "model.prediction=x0", "network=dit_digits", "network.depth=1"],
    },
    "score_sde_ve": {
        "ncsnpp": [
            "network=ncsnpp",
            "network.embedding_scale=0.1",
            "network.multipliers=[1,2]",
            "network.blocks=1",
            "network.attention=[4]",
            "sampler=euler",
            "weighting=likelihood",
            "times=log_snr",
        ],
    },
    "score_sde_vp": {
        "ddpmpp": [
            "network=ddpmpp",
            "network.multipliers=[1,2]",
            "network.blocks=1",
            "network.attention=[4]",
            "times=low_discrepancy",
        ],
    },
    "vdm": {
        "points": ["data=toy2d"],
        "linear": ["schedule.hidden=0", "network.fourier_features=true"],
    },
}
"""Further overrides, added to those above, that make another case of the same model."""
