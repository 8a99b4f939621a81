"""Streamed moments are those of the whole, and files of them are read and written as others do."""

import numpy as np
import pytest
import torch

from genlab.core.errors import UserError
from genlab.metrics.moments import Moments, Statistics


def features(n: int = 200, d: int = 7, mean: float = 0.0) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(n), dtype=torch.float64) * 3 + mean


def moments_of(*batches: torch.Tensor) -> Moments:
    moments = Moments(batches[0].shape[1])
    for batch in batches:
        moments.add(batch)
    return moments


@pytest.mark.parametrize("mean", [0.0, 1e6])
def test_a_stream_has_the_moments_of_the_whole(mean):
    x = features(mean=mean)
    statistics = moments_of(*x.split([1, 0, 60, 139])).statistics()
    assert statistics.count == 200
    torch.testing.assert_close(statistics.mean, x.mean(0), rtol=1e-12, atol=0)
    torch.testing.assert_close(statistics.covariance, x.T.cov(), rtol=1e-8, atol=1e-9)


def test_merged_moments_are_those_of_the_whole():
    x = features()
    a, b = moments_of(x[:30]), moments_of(x[30:])
    a.merge(b)
    a.merge(Moments(7))
    torch.testing.assert_close(a.statistics().covariance, x.T.cov(), rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(a.all_merge().statistics().covariance, x.T.cov(), rtol=1e-10, atol=1e-12)


def test_processes_have_the_moments_of_the_whole(monkeypatch):
    """`all_merge` on two processes, their sums played by one."""
    x = features(mean=5.0)
    shares = [moments_of(x[:50]), moments_of(x[50:])]
    mean = x.mean(0)
    sums = iter(
        [
            torch.tensor([200]),
            mean,
            sum(m.scatter + m.count * torch.outer(m.mean - mean, m.mean - mean) for m in shares),
        ]
    )
    seen = []
    monkeypatch.setattr("genlab.metrics.moments.all_sum", lambda share: seen.append(share) or next(sums))
    merged = shares[0].all_merge().statistics()
    torch.testing.assert_close(merged.covariance, x.T.cov(), rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(seen[1], shares[0].mean * 0.25)
    apart = shares[0].mean - mean
    torch.testing.assert_close(seen[2], shares[0].scatter + 50 * torch.outer(apart, apart))


def test_statistics_survive_a_file_that_numpy_reads(tmp_path):
    path = tmp_path / "deep" / "statistics.npz"
    statistics = moments_of(features()).statistics()
    statistics.save(path)
    with np.load(path) as arrays:
        np.testing.assert_array_equal(arrays["mu"], statistics.mean.numpy())
        np.testing.assert_array_equal(arrays["sigma"], statistics.covariance.numpy())
        assert arrays["n"] == 200
    again = Statistics.load(path)
    assert torch.equal(again.mean, statistics.mean)
    assert torch.equal(again.covariance, statistics.covariance)
    assert again.count == 200
    assert [p.name for p in path.parent.iterdir()] == ["statistics.npz"]


def test_a_file_of_another_tool_is_read(tmp_path):
    np.savez(tmp_path / "other.npz", mu=np.zeros(3, np.float32), sigma=np.eye(3, dtype=np.float32))
    statistics = Statistics.load(tmp_path / "other.npz")
    assert statistics.count is None
    assert statistics.covariance.dtype == torch.float64


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"mean": np.zeros(3)}, "must hold mu and sigma"),
        ({"mu": np.zeros(3), "sigma": np.eye(4)}, r"sigma of \(d, d\)"),
        ({"mu": np.zeros(3), "sigma": np.full((3, 3), np.nan)}, "must be finite"),
        ({"mu": np.array(["a"]), "sigma": np.eye(1)}, "damaged or not"),
        ({"mu": np.array([None]), "sigma": np.eye(1)}, "damaged or not"),
    ],
)
def test_a_malformed_file_is_one_line(tmp_path, arrays, message):
    np.savez(tmp_path / "bad.npz", **arrays)
    with pytest.raises(UserError, match=message) as error:
        Statistics.load(tmp_path / "bad.npz")
    assert "\n" not in str(error.value)


def test_a_file_that_is_missing_truncated_or_foreign_is_one_line(tmp_path):
    moments_of(features()).statistics().save(tmp_path / "whole.npz")
    (tmp_path / "truncated.npz").write_bytes((tmp_path / "whole.npz").read_bytes()[:300])
    (tmp_path / "text.npz").write_text("not statistics")
    (tmp_path / "empty.npz").write_bytes(b"")
    np.save(tmp_path / "array.npz.npy", np.zeros(3))
    for name in ("missing.npz", "truncated.npz", "text.npz", "empty.npz", "array.npz.npy", "."):
        with pytest.raises(UserError) as error:
            Statistics.load(tmp_path / name)
        assert "\n" not in str(error.value)


def test_a_file_that_cannot_be_written_leaves_nothing(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="could not be saved"):
        moments_of(features()).statistics().save(tmp_path / "file" / "statistics.npz")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
