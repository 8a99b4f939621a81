import numpy as np
import pytest
import torch
from scipy.io import savemat

from genlab.core.errors import UserError
from genlab.data.frey_faces import FreyFaces

X = np.random.default_rng(0).integers(256, size=(1965, 28, 20), dtype=np.uint8)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "frey_faces").mkdir()
    return tmp_path / "frey_faces"


def all_of(data: FreyFaces) -> torch.Tensor:
    return torch.cat([data.split(name).x for name in ("train", "validation", "test")])


def test_the_published_file_has_a_picture_a_column(folder):
    savemat(folder / "frey_rawface.mat", {"ff": X.reshape(1965, 560).T})
    data = FreyFaces(str(folder.parent))
    assert [len(data.split(name)) for name in ("train", "validation", "test")] == [1565, 200, 200]
    found = all_of(data)
    assert found.shape == (1965, *data.spec["x"].shape)
    assert sorted(found.flatten(1).tolist()) == sorted(X.reshape(1965, 560).tolist())


def test_numpys_file_holds_the_same_data_in_the_same_splits(folder):
    np.savez(folder / "frey_faces.npz", x=X)
    of_numpy = all_of(FreyFaces(str(folder.parent)))
    (folder / "frey_faces.npz").unlink()
    savemat(folder / "frey_rawface.mat", {"ff": X.reshape(1965, 560).T})
    assert of_numpy.equal(all_of(FreyFaces(str(folder))))


def test_an_absent_file_is_named(folder):
    with pytest.raises(UserError, match=r"data\.root=.* has no frey_faces/frey_rawface\.mat, .*: put it there"):
        FreyFaces(str(folder.parent)).split("train")


def test_other_content_is_named(folder):
    path = folder / "frey_rawface.mat"
    for content, message in (
        ({"faces": X[0]}, r"must hold ff, uint8 \(560, 1965\), and it holds nothing of that name"),
        ({"ff": X[0]}, r"and it holds uint8 \(28, 20\)"),
        ({"ff": X.reshape(1965, 560).T / 255}, "and it holds float64"),
    ):
        savemat(path, content)
        with pytest.raises(UserError, match=message):
            FreyFaces(str(folder.parent)).split("train")
    path.write_bytes(b"no MATLAB file")
    with pytest.raises(UserError, match="cannot be read"):
        FreyFaces(str(folder.parent)).split("train")
