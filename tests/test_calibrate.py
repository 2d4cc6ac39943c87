"""benchmarks/calibrate.py: it counts as plans do, fits known costs, and prints a table's row."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import product

import pytest
import torch

import convgrad_ext
from benchmarks.calibrate import Timed, fit, forced, judge, main, row_of, samples
from benchmarks.winograd_costs import FILTERS, VECTOR_BYTES, Costs, Features, Sample, features_of
from convgrad_ext import _C, allow_winograd, plans, use_kernel
from convgrad_ext.plans import PASSES

HERE = [name for name in convgrad_ext.available_kernels() if name in VECTOR_BYTES]
DTYPES = (torch.float32, torch.float64)
UNIT = 1e-9
KNOWN: Costs = {
    "products": 18.0,
    "pair": 30.0,
    "tiles": 250.0,
    "outputs": 90.0,
    "row": 70.0,
    "row_vector": 110.0,
    "row_apart": 9.0,
    "grads": 120.0,
    "grads_apart": 200.0,
    "direct_pair": 14.0,
    "direct_pixels": 25.0,
}


@pytest.fixture(autouse=True)
def _costs_as_before() -> Iterator[None]:
    before = {isa: _C.costs(isa) for isa in VECTOR_BYTES}
    yield
    for isa, costs in before.items():
        _C.set_costs(isa, costs)


def path(sample: Sample, dtype: torch.dtype) -> str:
    input = torch.empty(1, sample.C_in, sample.size, sample.size, dtype=dtype)
    weight = torch.empty(FILTERS, sample.C_in, 3, 3, dtype=dtype)
    d = sample.dilation
    found = plans(input, weight, None, 1, d, d)
    return next(plan.path for plan in found if plan.pass_name == sample.pass_name)


@pytest.mark.parametrize("isa", HERE)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("costs", ["present", "known"])
def test_it_chooses_as_the_plans_do(costs: str, dtype: torch.dtype, isa: str) -> None:
    """Layers on both sides of the border, near to it and far away."""
    if costs == "known":
        _C.set_costs(isa, KNOWN)
    grid = product((3, 8, 13, 20, 40, 64, 129, 300), (5, 9, 12, 14, 21, 33), (1, 2, 3), PASSES)
    chosen = set()
    with use_kernel(isa), allow_winograd(True):
        for sample in (Sample(*values) for values in grid):
            taken = features_of(sample, isa, dtype).takes_winograd(_C.costs(isa))
            assert (path(sample, dtype) == "winograd") is taken, sample
            chosen.add(taken)
    assert chosen == {False, True}


@pytest.mark.parametrize("isa", HERE)
@pytest.mark.parametrize("name", list(KNOWN))
def test_each_cost_is_counted_as_the_plans_do(name: str, isa: str) -> None:
    """One cost at a time is so large that it decides, and at last so small that it does not."""
    grid = [Sample(*values) for values in product((8, 40, 129), (9, 14, 21), (1, 2), PASSES)]
    with use_kernel(isa), allow_winograd(True):
        for factor in (0.0, 0.3, 3.0, 10.0, 100.0):
            _C.set_costs(isa, KNOWN | {name: factor * KNOWN[name]})
            for sample in grid:
                taken = features_of(sample, isa, torch.float32).takes_winograd(_C.costs(isa))
                assert (path(sample, torch.float32) == "winograd") is taken, (sample, factor)


def timed(features: Features, costs: Costs, unit: float = UNIT) -> Timed:
    """Times as the costs have them."""
    direct, winograd = features.over_all_taps(costs), features.in_winograds_form(costs)
    return Timed(features, unit * direct, unit * winograd)


def synthetic(dtype: torch.dtype, unit: float) -> list[Timed]:
    """Of grad_weight the loops over all taps have no costs: the unit is that of its best layer."""
    return [timed(features_of(s, HERE[0], dtype), KNOWN, unit) for s in samples(quick=False)]


def test_a_fit_finds_the_costs_that_made_the_times() -> None:
    """Of two dtypes, whose vectors differ in speed."""
    groups = [synthetic(torch.float32, UNIT), synthetic(torch.float64, 3 * UNIT)]
    fitted = fit(groups, dict.fromkeys(KNOWN, 1.0))
    assert list(fitted) == list(KNOWN)
    assert fitted == pytest.approx(KNOWN, rel=1e-6)
    assert judge(groups[0] + groups[1], fitted) == (len(groups[0] + groups[1]), 1.0)


def test_a_cost_that_no_layer_pays_stays() -> None:
    dense = [s for s in samples(quick=False) if s.dilation == 1]
    times = [timed(features_of(s, HERE[0], torch.float32), KNOWN) for s in dense]
    fitted = fit([times], dict.fromkeys(KNOWN, 1.0))
    assert (fitted["row_apart"], fitted["grads_apart"]) == (1.0, 1.0)
    assert fitted["row"] == pytest.approx(KNOWN["row"], rel=1e-6)


def test_a_judgement_by_hand() -> None:
    """The costs say 90 against 100 and 110 against 100; the clock says Winograd twice as slow."""
    features = [Features({"products": count}, {}, 100.0) for count in (90.0, 110.0)]
    measured = [Timed(each, direct=1.0, winograd=2.0) for each in features]
    right, loss = judge(measured, {"products": 1.0})
    assert right == 1
    assert loss == pytest.approx(2**0.5)


@pytest.mark.parametrize("isa", HERE)
def test_both_forms_can_be_forced(isa: str) -> None:
    """Also where the costs choose otherwise; what held before holds again."""
    before = _C.costs(isa)
    sample = Sample(8, 8, 1, "forward")
    for winograd, name in ((False, "direct"), (True, "winograd")):
        with forced(isa, winograd):
            assert path(sample, torch.float32) == name
    assert _C.costs(isa) == before
    assert not convgrad_ext.winograd_allowed()


def test_a_row_is_one_of_the_table() -> None:
    assert row_of("avx2", {"products": 19.0, "pair": 24.25}) == (
        '      {.isa = "avx2",\n       .products = 19,\n       .pair = 24.2},'
    )


def test_a_quick_run_prints_the_table_and_two_judgements(
    capsys: pytest.CaptureFixture[str],
) -> None:
    threads = torch.get_num_threads()
    main(["--quick", "--isa", HERE[-1], "--dtype", "float32"])
    told = capsys.readouterr().out
    assert re.findall(r'\.isa = "(\w+)"', told) == [HERE[-1]]
    assert re.findall(r"\.(\w+) = [0-9.e+]+[,}]", told) == list(KNOWN)
    judgements = re.findall(r"// (\w+): (\d+) of (\d+) right, (\d\.\d+) of the best time", told)
    assert [name for name, *_ in judgements] == ["present", "fitted"]
    for _, right, all_of_them, loss in judgements:
        assert 0 <= int(right) <= int(all_of_them) == len(samples(quick=True))
        assert float(loss) >= 1
    assert torch.get_num_threads() == threads


def test_another_instruction_set_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--isa", "sse"])
    assert "invalid choice: 'sse'" in capsys.readouterr().err
