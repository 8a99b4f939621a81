"""What makes each model of configs/model small enough to be tested in a moment."""

# A random network that does not change from one of 1,000 steps to the next, so that a solver takes few on its way.
SLOW = "network.embedding_scale=0.01"
# The encoder and decoder of images to maps of codes.
SMALL = ("encoder.width=8", "decoder.width=8")
# Plain layers, on any data.
LAYERS = ("encoder.hidden=[8]", "decoder.hidden=[8]")
# Plain layers, on data of two levels.
PLAIN = ("data=binarized_mnist", "encoder.hidden=[8]", "decoder.hidden=[8]")

# The first stages of latent diffusion.
FIRST_STAGE = (
    *("encoder.width=8", "encoder.multipliers=[1,2]", "encoder.blocks=1"),
    *("critic.width=8", "critic.layers=1", "model.adversary.start=0"),
)

TINY = {
    "ae": [*LAYERS, "bottleneck.size=3", "model.density.components=2"],
    "autoencoder_kl": [*FIRST_STAGE],
    "autoencoder_vq": [*FIRST_STAGE, "bottleneck.codes=16", "bottleneck.size=4"],
    "beta_tcvae": [*PLAIN, "bottleneck.size=3"],
    "beta_vae": [*PLAIN, "bottleneck.size=3"],
    "cgan": ["generator.hidden=[8]", "critic.hidden=[8]", "conditioner.vector=4"],
    "classifier": ["network.width=8", "schedule.steps=30"],
    "ddpm": ["network.width=8", "schedule.steps=30", "sampler.steps=3", "estimator.t=2"],
    "dae": [*LAYERS, "bottleneck.size=3", "model.density.components=2"],
    "dpm": ["network.width=8", "schedule.steps=20", "sampler.steps=3", "estimator.t=2"],
    "dpm_binomial": [
        "data=heartbeat",
        "network.width=8",
        "schedule.steps=20",
        "sampler.steps=3",
        "estimator.t=2",
    ],
    "dcgan": ["generator.width=4", "critic.width=4"],
    "dvae": [*SMALL, "bottleneck.codes=16", "bottleneck.size=4"],
    "edm": ["network.width=8", "sampler.steps=3"],
    "flow_matching": ["network.width=8", SLOW, "sampler.rtol=1e-6", "sampler.atol=1e-6"],
    "gan": ["generator.hidden=[8]", "critic.hidden=[8]"],
    "gated_pixelcnn": ["causal.width=8", "causal.layers=1", "causal.head=8"],
    "glow": ["transform.steps=2", "transform.width=8"],
    "iaf": ["data=toy2d", "transform.hidden=[16]"],
    "iaf_vae": [*PLAIN, "bottleneck.size=3", "bottleneck.hidden=[8]", "bottleneck.context=4"],
    "iddpm": ["network.width=8", "schedule.steps=30", "sampler.steps=3", "estimator.t=2"],
    "image_transformer": [
        *("data=digits", "output=categorical"),
        *("causal.width=8", "causal.depth=1", "causal.heads=2"),
    ],
    "iwae": [
        *PLAIN,
        "bottleneck.size=3",
        "objective.k=4",
        "estimator=importance",
        "estimator.k=7",
        "estimator.chunk=3",
    ],
    "lsgan": ["generator.width=4", "critic.width=4", "critic.norm=spectral"],
    "made": ["data=binarized_mnist", "causal.hidden=[8]"],
    "made_flow": ["data=toy2d", "transform.hidden=[16]"],
    "maf": ["data=toy2d", "transform.hidden=[16]"],
    "markov_chain": ["data=daily_states"],
    "ncsn": ["network.width=8", "sampler.steps=3", "sampler.repeats=2", "estimator.t=2"],
    "ncsnv2": ["network.width=8", "schedule.steps=8", "schedule.high=9.4", "sampler.repeats=2", "estimator.t=2"],
    "nice": ["transform.couplings=2", "transform.hidden=[16]"],
    "nsf": ["data=toy2d", "transform.hidden=[16]", "transform.steps=3"],
    "pixelrnn": ["data=digits", "output=categorical", "causal.width=4", "causal.depth=1", "causal.head=8"],
    "pixelcnn": ["data=binarized_mnist", "causal.width=8", "causal.blocks=1", "causal.head=8"],
    "pixelcnn_pp": ["causal.width=6", "causal.blocks=1", "output.components=2"],
    "planar": ["data=toy2d", "transform.steps=4"],
    "realnvp": ["transform.width=8", "transform.blocks=1"],
    "realnvp_vector": ["data=toy2d", "transform.hidden=[16]"],
    "rectified_flow": ["network.width=8", SLOW, "sampler.steps=3"],
    "score_sde_subvp": ["network.width=8", SLOW, "sampler.steps=3"],
    "score_sde_ve": ["network.width=8", "sampler.steps=3"],
    "score_sde_vp": ["network.width=8", SLOW, "sampler.steps=3"],
    "sngan": ["generator.width=4", "critic.width=4", "noise.size=5"],
    "ssgan": ["data=mnist_few_labels", "generator.hidden=[8]", "noise.size=5"],
    "sparse_ae": [*LAYERS, "bottleneck.size=3", "model.density.components=2"],
    "stylegan2": ["generator.width=6", "critic.width=6", "generator.style=5", "generator.mapping=2", "noise.size=4"],
    "vae": [*PLAIN, "bottleneck.size=3"],
    "vdm": ["network.width=8", "schedule.hidden=8", "sampler.steps=3", "estimator.t=2"],
    "vq_vae": [*SMALL, "bottleneck.codes=16", "bottleneck.size=4"],
    "vq_vae2": [*SMALL, "bottleneck.width=8", "bottleneck.size=4", "bottleneck.top.size=4", "bottleneck.bottom.size=4"],
    "wgan": ["generator.width=4", "critic.width=4", "critic.norm=group", "critic.dense=8", "generator.dense=8"],
    "wgan_gp": ["generator.width=4", "critic.width=4", "noise.size=5"],
    "wavenet": ["data=tones", "data.length=12", "causal.channels=4", "causal.skip=4", "causal.layers=2"],
}
"""Overrides of a training command, by the name of the model's file."""

ALSO = {
    "ae": {"contractive": ["model.contraction=0.1"]},
    "autoencoder_kl": {
        "nonsaturating": [
            *("model.adversary.loss=nonsaturating", "model.adversary.adaptive=false", "output=gaussian"),
            *("critic.norm=none", "objective=importance", "objective.k=2"),
        ],
    },
    "beta_tcvae": {
        "stratified": ["objective.sampling=stratified"],
    },
    "beta_vae": {
        "capacity": ["objective=capacity"],
        "points": ["data=toy2d", "output=gaussian", "objective.warmup_steps=10"],
    },
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
    "dae": {
        "gaussian": ["corruption=gaussian"],
        "salt and pepper": ["corruption=salt_and_pepper", "data=toy2d"],
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
    "dvae": {
        "straight": ["bottleneck.straight_through=true", "bottleneck.anneal=exponential", "encoder.factor=2"],
    },
    "edm": {
        "points": ["data=toy2d", "estimator=ode"],
        "v on vp": ["schedule=vp", "model.prediction=v", SLOW],
    },
    "gan": {
        "label": [
            *("conditioner=label", "conditioner.vector=4", "critic.minibatch=3", "critic.dropout=0.1"),
            *("model.historical=0.1", "augment=instance_noise", "objective.smooth=0.1"),
        ],
        "points": ["data=toy2d", "model.updates=simultaneous", "penalty=r1", "generator.norm=batch"],
        "features": ["objective=feature_matching", "critic.norm=spectral", "penalty=gradient_penalty"],
    },
    "gated_pixelcnn": {
        "label": ["conditioner=label", "conditioner.vector=4", "conditioner.dropout=0.1"],
    },
    "glow": {
        "label": ["conditioner=label", "conditioner.vector=4", "conditioner.dropout=0.1", "transform.recompute=true"],
        "variational": [
            "preprocess=variational",
            "preprocess.dequantize.flow.width=8",
            "transform.mixing=plain",
            "transform.coupling=additive",
            "sampler.temperature=0.7",
        ],
        "logit": ["preprocess=variational_logit", "preprocess.dequantize.flow.width=8", "transform.mixing=reverse"],
    },
    "iaf": {
        "label": ["data.name=pinwheel", "conditioner=label", "conditioner.vector=4", "conditioner.dropout=0.1"],
    },
    "iaf_vae": {
        "importance": ["objective=importance", "objective.k=2", "estimator=importance", "estimator.k=3"],
        "told nothing": ["bottleneck.context=0", "bottleneck.order=random"],
    },
    "iddpm": {
        "bound": ["weighting=none", "times=loss_aware", "model.bound_weight=1"],
        "linear x0": ["schedule=linear", "model.prediction=x0", "network=dit_digits", "network.depth=1"],
    },
    "image_transformer": {
        "label": [
            *("conditioner=label", "conditioner.vector=4", "conditioner.dropout=0.1"),
            *("causal.dropout=0.1", "causal.positions=sinusoidal"),
        ],
    },
    "iwae": {
        "double": ["objective.gradient=doubly_reparametrized"],
    },
    "made": {
        "masks": ["causal.masks=3", "causal.order=random", "causal.direct=true", "causal.dropout=0.2"],
        "label": [
            *("data=digits", "output=categorical", "causal.one_hot=true"),
            *("conditioner=label", "conditioner.vector=4", "conditioner.dropout=0.1"),
        ],
    },
    "maf": {
        "label": [
            *("data.name=pinwheel", "conditioner=label", "conditioner.vector=4", "conditioner.dropout=0.1"),
            *("transform.norm=act", "transform.order=random"),
        ],
        "digits": ["data=digits", "preprocess=uniform_logit", "transform.steps=2"],
    },
    "markov_chain": {
        "order": ["model.order=2", "model.smoothing=0.5"],
        "given": ["model.matrix=[[0.2,0.7,0.1],[0.5,0.1,0.4],[0.2,0.3,0.5]]"],
    },
    "nice": {
        "points": ["data=toy2d", "preprocess=none", "estimator.draws=3"],
        "label": ["conditioner=label", "conditioner.vector=4", "conditioner.dropout=0.1", "base=conditional_normal"],
    },
    "nsf": {
        "autoregressive": ["transform.kind=autoregressive", "transform.mixing=none"],
        "label": [
            *("data.name=pinwheel", "conditioner=label", "conditioner.vector=4", "conditioner.dropout=0.1"),
            "transform.mixing=shuffle",
        ],
    },
    "pixelrnn": {
        "rows": ["causal=row_lstm", "conditioner=label", "conditioner.vector=4", "conditioner.dropout=0.1"],
    },
    "pixelcnn": {
        "levels": ["data=digits", "output=categorical", "conditioner=label", "conditioner.vector=4"],
    },
    "pixelcnn_pp": {
        "label": ["conditioner=label", "conditioner.vector=4", "causal.scales=2"],
    },
    "planar": {
        "label": ["data.name=pinwheel", "conditioner=label", "conditioner.vector=4", "conditioner.dropout=0.1"],
    },
    "realnvp": {
        "draws": ["transform.scales=3", "transform.norm=act", "preprocess=uniform", "estimator.draws=3"],
    },
    "realnvp_vector": {
        "label": ["data.name=pinwheel", "conditioner=label", "conditioner.vector=4", "conditioner.dropout=0.1"],
        "digits": ["data=digits", "preprocess=uniform_logit", "transform.norm=batch"],
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
    "sngan": {
        "label": ["conditioner=label", "conditioner.vector=4"],
        "lazy r1": [
            *("penalty=r1", "penalty.every=16"),
            *("critic.norm=group", "generator.norm=batch", "critic.minibatch=2"),
        ],
    },
    "ssgan": {
        "images": [
            *("data=cifar10_few_labels", "critic=network_in_network", "critic.width=4"),
            *("objective=nonsaturating", "augment=instance_noise"),
        ],
    },
    "sparse_ae": {"k largest": ["bottleneck=k_sparse", "bottleneck.k=2"]},
    "stylegan2": {
        "label": [
            *("conditioner=label", "conditioner.vector=4", "critic.mapping=2", "critic.group=0"),
            *("generator.mixing=0", "augment=ada", "augment.start=0.5", "sampler=truncation"),
        ],
        "diffaug": ["augment=diffaug", "model.regularizer=null", "penalty=r1"],
    },
    "vae": {
        "annealed": ["estimator=ais", "estimator.temperatures=5", "estimator.chains=2", "estimator.pilot=3"],
        "images": [
            "encoder=conv",
            "decoder=conv",
            "encoder.widths=[4,4]",
            "decoder.widths=[4,4]",
            "encoder.hidden=[8]",
        ],
        "levels": ["data=digits", "output=logistic_mixture", "output.components=2", "estimator.draws=3"],
    },
    "vdm": {
        "points": ["data=toy2d"],
        "linear": ["schedule.hidden=0", "network.fourier_features=true"],
    },
    "vq_vae": {
        "gradients": ["bottleneck.ema=false", "bottleneck.cosine=true", "bottleneck.dimension=3"],
        "importance": ["objective=importance", "objective.k=2", "estimator=importance", "estimator.k=3"],
    },
    "wgan_gp": {
        "label": ["conditioner=label", "conditioner.vector=4", "critic.norm=layer", "generator.norm=none"],
    },
    "wavenet": {
        "label": ["conditioner=label", "conditioner.vector=4", "conditioner.dropout=0.1", "sampler.temperature=0.7"],
    },
}
"""Further overrides, added to those above, that make another case of the same model."""
