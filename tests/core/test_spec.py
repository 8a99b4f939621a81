"""A spec survives the way through a config, which is how it reaches networks and checkpoints."""

import json

import pytest

from genlab.core.spec import Field, spec_from_config, spec_to_config

SPECS = {
    "digits": {"x": Field((1, 8, 8), levels=17), "label": Field((), classes=10)},
    "points": {"x": Field((2,))},
    "padded": {"x": Field((1, 32, 32), levels=256, dims=784)},
    "captions": {"x": Field((3, 64, 64), levels=256), "tokens": Field((77,), vocabulary=49408)},
    "sphere": {"x": Field((3,), support="sphere")},
}


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS.keys())
def test_a_spec_survives_a_config(spec):
    config = spec_to_config(spec)
    assert spec_from_config(json.loads(json.dumps(config))) == spec


@pytest.mark.parametrize(("shape", "dimensions"), [((3, 32, 32), 3072), ((2,), 2), ((), 1)], ids=str)
def test_the_dimensions_are_those_of_the_shape(shape, dimensions):
    assert Field(shape).dimensions == dimensions
    assert Field(shape, dims=784).dimensions == 784


def test_lists_are_shapes_too():
    assert Field([1, 8, 8]) == Field((1, 8, 8))


@pytest.mark.parametrize(
    ("shape", "image"), [((1, 8, 8), True), ((3, 8, 4), True), ((2, 8, 8), False), ((3,), False), ((), False)], ids=str
)
def test_images_have_one_channel_or_three(shape, image):
    assert Field(shape).is_image is image


def test_one_level_is_no_choice():
    with pytest.raises(ValueError, match="levels must be at least 2, not 1"):
        Field((1,), levels=1)
