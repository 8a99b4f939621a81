import numpy as np
import pytest
import torch

from genlab.core.errors import UserError
from genlab.data.tabular import NAMES, Tabular

TABLE = np.random.default_rng(0).normal(3.0, [1.0, 20.0, 0.1], size=(200, 3))


def parts(data: Tabular) -> list[torch.Tensor]:
    return [data.split(name).x for name in NAMES]


@pytest.fixture(params=["names", "numbers", "npz"])
def file(request, tmp_path):
    path = tmp_path / ("table.npz" if request.param == "npz" else "table.csv")
    if request.param == "npz":
        np.savez(path, x=TABLE)
    else:
        np.savetxt(path, TABLE, delimiter=",", header="a,b,c" if request.param == "names" else "", comments="")
    return path


def test_a_table_is_split_and_standardized_on_what_is_trained_on(file):
    data = Tabular(str(file), validation=0.2, test=0.1)
    assert data.spec["x"].shape == (3,)
    assert [len(x) for x in parts(data)] == [140, 40, 20]
    train = data.split("train").x
    torch.testing.assert_close(train.mean(0), torch.zeros(3), atol=1e-6, rtol=0)
    torch.testing.assert_close(train.std(0, unbiased=False), torch.ones(3))
    plain = Tabular(str(file), validation=0.2, test=0.1, standardize=False)
    assert sorted(map(tuple, torch.cat(parts(plain)).tolist())) == sorted(map(tuple, TABLE.astype("f4").tolist()))
    mean, deviation = (plain.split("train").x.mean(0), plain.split("train").x.std(0, unbiased=False))
    for x, v in zip(parts(data), parts(plain), strict=True):
        torch.testing.assert_close(x, (v - mean) / deviation, rtol=1e-4, atol=1e-4)
    assert data.split("test").batch(torch.tensor([0, 0]))["x"].shape == (2, 3)


def test_splits_of_ones_own_are_kept(tmp_path):
    np.savez(tmp_path / "t.npz", train=TABLE[:100], validation=TABLE[100:120], test=TABLE[120:])
    data = Tabular(str(tmp_path / "t.npz"), standardize=False)
    torch.testing.assert_close(torch.cat(parts(data)), torch.from_numpy(TABLE).float())


def test_another_table_has_another_name(tmp_path):
    names = set()
    for scale in (1, 2):
        np.savetxt(tmp_path / "t.csv", scale * TABLE, delimiter=",")
        names |= {Tabular(str(tmp_path / "t.csv"), test=test).identity for test in (0.1, 0.2)}
    assert len(names) == 4


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"1,2\n3,x\n", "cannot be read as a table of numbers"),
        (b"1,2\n3\n", "cannot be read as a table of numbers"),
        (b"1,2\n3,4\n", "too few"),
        (b"1,nan\n" * 20 + b"2,3\n" * 20, "not finite"),
        (b"1,2\n3,2\n" * 20, "column 2 never changes"),
    ],
)
def test_what_is_wrong_with_a_table_is_said(tmp_path, content, message):
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        Tabular(str(tmp_path / "t.csv")).split("train")
    assert "\n" not in str(caught.value)


def test_mistakes_are_said_in_a_line(tmp_path):
    np.savez(tmp_path / "t.npz", y=TABLE)
    for make, message in (
        (lambda: Tabular().spec, "data.file=table.csv"),
        (lambda: Tabular("t.csv", name="power"), "are two tables"),
        (lambda: Tabular(name="iris"), "name must be one of power"),
        (lambda: Tabular("t.csv", validation=0.5, test=0.5), "leave something to train on"),
        (lambda: Tabular(str(tmp_path / "t.npz")).split("train"), "and it holds y"),
        (lambda: Tabular(str(tmp_path / "absent.csv")).spec, "no such file"),
        (lambda: Tabular(str(tmp_path)).spec, "no such file"),
        (lambda: Tabular(name="gas", root=str(tmp_path)).split("train"), r"has no gas/data\.npy.*zenodo"),
    ):
        with pytest.raises(ValueError, match=message):
            make()


def test_power_has_noise_below_the_meters_resolution(tmp_path):
    (tmp_path / "power").mkdir()
    table = np.random.default_rng(0).integers(0, 50, size=(1000, 8)).astype(float)
    np.save(tmp_path / "power" / "data.npy", table)
    data = Tabular(name="power", root=str(tmp_path))
    assert data.spec["x"].shape == (6,)
    assert [len(x) for x in parts(data)] == [810, 90, 100]
    seen = torch.cat(parts(data)[:2])
    torch.testing.assert_close(seen.mean(0), torch.zeros(6), atol=1e-5, rtol=0)
    # The rows are in the original order.
    order = np.arange(1000)
    np.random.RandomState(42).shuffle(order)
    kept = table[order][:, [0, 2, 4, 5, 6, 7]]
    # Noise is uniform below so much in these columns; a line takes the standardization, and half of that, away.
    whole = torch.cat(parts(data)).double().numpy()
    for column, width in enumerate((0.001, 0.01, 1, 1, 1, 0)):
        slope, offset = np.polyfit(whole[:, column], kept[:, column], 1)
        away = whole[:, column] * slope + offset - kept[:, column]
        assert np.abs(away).max() < 0.6 * width + 1e-3


def test_gas_keeps_one_of_each_correlated_pair(tmp_path):
    (tmp_path / "gas").mkdir()
    rng = np.random.default_rng(0)
    free = rng.normal(size=(500, 8))
    table = np.concatenate([free + 1e-3 * rng.normal(size=free.shape), free], axis=1)
    np.save(tmp_path / "gas" / "data.npy", table)
    data = Tabular(name="gas", root=str(tmp_path))
    whole = torch.cat(parts(data)).double()
    expected = (free - free.mean(0)) / free.std(0, ddof=1)
    torch.testing.assert_close(whole, torch.from_numpy(expected), rtol=1e-5, atol=1e-5)
    assert [len(x) for x in parts(data)] == [405, 45, 50]


def test_hepmass_is_its_signal_without_discrete_features(tmp_path):
    (tmp_path / "hepmass").mkdir()
    rng = np.random.default_rng(0)
    for name, count, more in (("train", 400, 0), ("test", 100, 1)):
        table = rng.normal(size=(count, 28 + more))
        table[:, 0] = np.arange(count) % 2
        table[:, 3:9] = rng.integers(2, size=(count, 6))
        names = ",".join(f"f{i}" for i in range(table.shape[1]))
        np.savetxt(tmp_path / "hepmass" / f"1000_{name}.csv", table, delimiter=",", header=names)
    data = Tabular(name="hepmass", root=str(tmp_path))
    assert [x.shape for x in parts(data)] == [(180, 21), (20, 21), (50, 21)]
    seen = torch.cat(parts(data)[:2])
    torch.testing.assert_close(seen.std(0), torch.ones(21))


def test_miniboone_is_split_from_its_end(tmp_path):
    (tmp_path / "miniboone").mkdir()
    table = np.random.default_rng(0).normal(2, 3, size=(200, 43))
    np.save(tmp_path / "miniboone" / "data.npy", table)
    data = Tabular(name="miniboone", root=str(tmp_path))
    seen = table[:180]
    expected = torch.from_numpy((table[180:] - seen.mean(0)) / seen.std(0)).float()
    torch.testing.assert_close(data.split("test").x, expected)
    np.save(tmp_path / "miniboone" / "data.npy", table[:, :40])
    with pytest.raises(UserError, match=r"must hold an array \(N, 43\), and it holds \(200, 40\)"):
        Tabular(name="miniboone", root=str(tmp_path)).split("train")


def test_bsds300_is_as_it_is_stored(tmp_path):
    h5py = pytest.importorskip("h5py", reason="h5py is not installed")
    (tmp_path / "BSDS300").mkdir()
    table = np.random.default_rng(0).normal(size=(60, 63))
    with h5py.File(tmp_path / "BSDS300" / "BSDS300.hdf5", "w") as file:
        for name, rows in (("train", slice(0, 40)), ("validation", slice(40, 50)), ("test", slice(50, 60))):
            file[name] = table[rows]
    data = Tabular(name="bsds300", root=str(tmp_path))
    torch.testing.assert_close(torch.cat(parts(data)), torch.from_numpy(table).float())
