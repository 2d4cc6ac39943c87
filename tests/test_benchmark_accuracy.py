"""The table of how near half precision comes to exact results."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmarks import accuracy, exit_code_of
from benchmarks.layers import Form, load_layers, make_operands


def test_the_nearest_numbers_are_right() -> None:
    """1/3 is no number of float16: its nearest one is off by less than a rounding."""
    exact = torch.full((4,), 1 / 3, dtype=torch.float64)
    share, error = accuracy.nearness(exact.half(), exact)
    assert share == 1
    assert 0 < error < 1


def test_the_next_number_is_off_by_two_roundings() -> None:
    exact = torch.ones(4, dtype=torch.float64)
    result = exact.half()
    result[0] += torch.finfo(torch.float16).eps
    assert accuracy.nearness(result, exact) == (0.75, 2.0)


def test_a_small_element_errs_at_the_typical_size() -> None:
    """Its own digits are those that cancelled."""
    exact = torch.tensor([1.0, 1.0, 1e-6], dtype=torch.float64)
    result = torch.tensor([1.0, 1.0, 0.0]).half()
    _, error = accuracy.nearness(result, exact)
    assert error == pytest.approx(1e-6 / (2**-11 * (2 / 3) ** 0.5), rel=1e-3)


def test_the_command_prints_and_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Ours are within a rounding, with what float32 adds, for every layer of the class."""
    output = tmp_path / "accuracy.md"
    assert accuracy.main(["--classes", "batch1", "--output", str(output)]) == 0
    text = output.read_text()
    assert text == capsys.readouterr().out
    rows = [line.split(" | ") for line in text.splitlines() if "float16" in line]
    assert [row[1] for row in rows] == [*accuracy.ALL] * 2
    assert all(float(row[3]) < 1.05 for row in rows)


def test_winograd_is_allowed_on_our_side(capsys: pytest.CaptureFixture[str]) -> None:
    """Results of float16 differ by the other sums of float32, before they are rounded."""
    layer = next(each for each in load_layers(["dense3x3"], quick=True))
    x = make_operands(layer, Form(torch.float16, torch.contiguous_format))
    allowed = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(accuracy, "load_layers", lambda *_, **__: [layer])
        patch.setattr(
            accuracy, "table", lambda _: allowed.append(accuracy.OURS.single["forward"](x)) or ""
        )
        for options in ([], ["--winograd"]):
            assert accuracy.main(options) == 0
    assert not torch.equal(*allowed)
    assert "1 layers" in capsys.readouterr().out


def test_an_unknown_class_is_bad_input(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code_of("accuracy.py", accuracy.main, ["--classes", "lost"]) == 2
    assert "unknown class 'lost'" in capsys.readouterr().err
