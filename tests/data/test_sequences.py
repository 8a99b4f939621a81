"""Sequences: states from day to day, and characters of a text."""

import pytest
import torch

from genlab.core.errors import UserError
from genlab.core.units import to_levels
from genlab.data.contract import Readable
from genlab.data.daily_states import MATRIX, STATIONARY, DailyStates
from genlab.data.text_file import TextFile

TEXT = "abc cab bac. " * 40


def text(tmp_path, content: str = TEXT, **options) -> TextFile:
    path = tmp_path / "book.txt"
    path.write_text(content, encoding="utf-8")
    return TextFile(str(path), **{"length": 8, "validation": 0.2, "test": 0.2, **options})


def test_states_follow_each_other_as_the_matrix_says():
    split = DailyStates().split("train")
    v = to_levels(split.batch(torch.arange(len(split)))["x"][:, 0], 3)
    assert v.shape == (2000, 50)
    counts = torch.zeros(3, 3).index_put((v[:, :-1].flatten(), v[:, 1:].flatten()), torch.tensor(1.0), accumulate=True)
    torch.testing.assert_close(counts / counts.sum(1, keepdim=True), torch.tensor(MATRIX), atol=0.01, rtol=0)
    for day in (0, 49):
        shares = torch.bincount(v[:, day], minlength=3) / 2000
        torch.testing.assert_close(shares, torch.tensor(STATIONARY), atol=0.05, rtol=0)
    longer = DailyStates(60).split("train").batch(torch.arange(5))["x"]
    assert torch.equal(longer[..., :50], split.batch(torch.arange(5))["x"])
    assert not torch.equal(DailyStates().split("test").batch(torch.arange(9))["x"], split.batch(torch.arange(9))["x"])


def test_windows_are_the_text(tmp_path):
    data = text(tmp_path, stride=3)
    assert isinstance(data, Readable)
    assert data.alphabet == " .abc"
    assert data.spec["x"].shape == (1, 8)
    assert data.spec["x"].levels == 5
    train, test = data.split("train"), data.split("test")
    shown = data.texts(train.batch(torch.tensor([0, 1, len(train) - 1]))["x"])
    assert shown[:2] == [TEXT[:8], TEXT[3:11]]
    assert len(train) == (312 - 8) // 3 + 1
    whole = "".join(data.texts(test.batch(torch.arange(len(test)))["x"]))
    assert whole == TEXT[416:][: len(whole)]
    assert len(test) == 104 // 8
    assert data.identity != text(tmp_path, length=9).identity


WRONG = {
    "the character 'z' of its test part, at 50": ({"content": TEXT[:466] + "z" + TEXT[467:]}, {}),
    "the character 'b' of its train part, at 1, is not in data.alphabet": ({}, {"alphabet": "ac. "}),
    "its validation part has 104 characters, and a window has 200": ({}, {"length": 200}),
    "has but one character": ({"content": "a" * 100}, {}),
    "length must be at least 1": ({}, {"length": 0}),
    "validation=0.9 and test=0.2": ({}, {"validation": 0.9}),
}


@pytest.mark.parametrize("said", WRONG)
def test_texts_that_will_not_do_are_said_in_a_line(said, tmp_path):
    content, options = WRONG[said]
    with pytest.raises((UserError, ValueError), match=said) as error:
        _ = text(tmp_path, **content, **options).spec
    assert "\n" not in str(error.value)


def test_files_that_will_not_do_are_said(tmp_path):
    with pytest.raises(UserError, match=r"data\.path=null"):
        _ = TextFile().spec
    with pytest.raises(UserError, match="there is no such file"):
        _ = TextFile("none.txt", root=str(tmp_path)).spec
    (tmp_path / "broken.txt").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(UserError, match="cannot be read as UTF-8"):
        _ = TextFile("broken.txt", root=str(tmp_path)).spec


def test_an_alphabet_may_be_given(tmp_path):
    data = text(tmp_path, alphabet="zabc. ")
    assert data.alphabet == " .abcz"
    assert data.texts(data.split("train").batch(torch.tensor([0]))["x"]) == [TEXT[:8]]
