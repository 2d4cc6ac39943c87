"""The price of allow_winograd(True): each fault that docs/winograd.md lists, beside the default.

The layer is large enough for every instruction set to use Winograd in every pass and dtype.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
import torch.nn.functional as F
from kernel_names import FAST
from torch import Tensor

import convgrad_ext
from convgrad_ext import allow_winograd, conv2d, conv2d_input, conv2d_weight

C, SIZE = 64, 26
IMAGE, FILTERS = (1, C, SIZE, SIZE), (C, C, 3, 3)

pytestmark = pytest.mark.parametrize("name", FAST)


@pytest.fixture(autouse=True)
def _one_kernel(name: str) -> Iterator[None]:
    with convgrad_ext.use_kernel(name):
        yield


def both(function: Callable[..., Tensor], *args: object) -> tuple[Tensor, Tensor]:
    """By default, and with Winograd, for an image that keeps its size."""
    results = []
    for allowed in (False, True):
        with allow_winograd(allowed):
            results.append(function(*args, padding=1))
    return results[0], results[1]


def numbers(seed: int, *size: int) -> Tensor:
    return torch.rand(size, generator=torch.Generator().manual_seed(seed))


def pixels(values: dict[tuple[int, int], float], channels: slice = slice(None)) -> Tensor:
    """An image of zeros, but for some pixels."""
    image = torch.zeros(IMAGE)
    for (row, column), value in values.items():
        image[:, channels, row, column] = value
    return image


def lopsided_filters() -> Tensor:
    """A large tap beside eight tiny ones, all of them positive."""
    weight = torch.full(FILTERS, 1e-6)
    weight[:, :, 1, 0] = 1e3 * numbers(0, C, C)
    return weight


TWO_PIXELS = {(5, 5): 1.0, (5, 6): 1 / 3}


def test_no_negative_operand_and_yet_a_negative_output() -> None:
    default, allowed = both(conv2d, pixels(TWO_PIXELS), lopsided_filters())
    assert default.min() >= 0
    assert allowed.min() < 0
    assert allowed.sqrt().isnan().any()


def test_no_negative_operand_and_yet_a_negative_grad_input() -> None:
    default, allowed = both(conv2d_input, IMAGE, lopsided_filters(), pixels(TWO_PIXELS))
    assert default.min() >= 0
    assert allowed.min() < 0


def test_no_negative_operand_and_yet_a_negative_grad_weight() -> None:
    input = torch.zeros(IMAGE)
    input[:, :, 4, 4] = 1e3 * numbers(0, C)
    grad_output = pixels({(4, 4): 1 / 3, (4, 5): 1e-6, (5, 5): 0.1})
    default, allowed = both(conv2d_weight, input, FILTERS, grad_output)
    assert default.min() >= 0
    assert allowed.min() < 0


def test_finite_operands_and_yet_a_nan() -> None:
    """Every product is at most 2e35. The difference of the two pixels is beyond float32."""
    input = pixels({(5, 5): 2e38, (5, 7): -2e38}, channels=slice(1))
    default, allowed = both(conv2d, input, torch.full(FILTERS, 1e-3))
    assert default.isfinite().all()
    assert allowed.isnan().any()


def test_an_infinite_pixel_makes_eight_of_nine_outputs_nan() -> None:
    input = torch.ones(IMAGE)
    input[0, 0, 5, 5] = torch.inf
    default, allowed = both(conv2d, input, torch.ones(FILTERS))
    assert default[0, 0].isinf().sum() == 9
    assert (allowed[0, 0].isnan().sum(), allowed[0, 0].isinf().sum()) == (8, 1)
    seen = F.conv2d(input.isinf().float(), torch.ones(FILTERS), padding=1) > 0
    assert (allowed[~seen] == default[~seen]).all()  # the outputs that do not meet it


def test_an_infinite_pixel_makes_all_of_grad_weights_taps_nan() -> None:
    input = torch.ones(IMAGE)
    input[0, 0, 5, 5] = torch.inf
    default, allowed = both(conv2d_weight, input, FILTERS, torch.ones(IMAGE))
    assert default[:, 0].isinf().all()
    assert allowed[:, 0].isnan().all()
    assert (allowed[:, 1:] == default[:, 1:]).all()  # the other channels


def test_an_infinite_weight_meets_the_padding() -> None:
    """In the plain loops padding is no operand: the first row and column do not see that tap."""
    weight = torch.ones(FILTERS)
    weight[0, 0, 0, 0] = torch.inf
    default, allowed = both(conv2d, torch.ones(IMAGE), weight)
    assert default[0, 0, 0].isfinite().all()
    assert allowed[0, 0, 0].isnan().all()


def test_whole_numbers_below_2_to_24_are_not_exact() -> None:
    input, weight = torch.zeros(IMAGE), (512 * numbers(2, *FILTERS)).floor()
    input[:, :5] = (512 * numbers(1, 1, 5, SIZE, SIZE)).floor()
    exact = F.conv2d(input.double(), weight.double(), padding=1)
    assert exact.max() < 2**24
    default, allowed = both(conv2d, input, weight)
    assert torch.equal(default.double(), exact)
    assert (allowed - exact).abs().max() >= 0.5


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_a_dirac_kernel_does_not_return_the_image(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    input = torch.randn(IMAGE, generator=generator, dtype=dtype)
    weight = torch.nn.init.dirac_(torch.empty(FILTERS, dtype=dtype))
    default, allowed = both(conv2d, input, weight)
    assert torch.equal(default, input)
    assert not torch.equal(allowed, input)
    assert (allowed - input).abs().max() < 16 * torch.finfo(dtype).eps * input.abs().max()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_an_error_is_relative_to_all_sources_of_a_tile_and_the_kernel(dtype: torch.dtype) -> None:
    """Outputs that meet tiny taps alone have lost half of their digits or more."""
    input, weight = pixels(TWO_PIXELS).to(dtype), lopsided_filters().to(dtype)
    products = F.conv2d(input.double(), weight.double(), padding=1)  # none of them is negative
    default, allowed = both(conv2d, input, weight)
    eps = torch.finfo(dtype).eps
    tiny = (products > 0) & (products < 1e-3)
    assert tiny.any()
    assert ((default - products).abs() <= 9 * C * eps * products).all()
    assert ((allowed - products).abs()[tiny] / products[tiny]).max() > eps**0.5
    largest = products.max()  # of the sources of a tile and the kernel
    assert ((allowed - products).abs() <= 16 * eps * largest).all()


def test_rows_that_see_padding_alone_are_still_zero() -> None:
    """No number of the image is among the sources of such a result."""
    input, weight = numbers(1, *IMAGE), numbers(2, *FILTERS) - 0.5
    for padding in (3, 4):
        with allow_winograd(True):
            output = conv2d(input, weight, padding=padding)
        alone = padding - 2
        assert (output[:, :, :alone] == 0).all()
        assert (output[:, :, -alone:] == 0).all()
        assert (output[..., :alone] == 0).all()
        assert (output[..., -alone:] == 0).all()


def test_the_gradient_of_a_batch_is_still_that_of_its_images() -> None:
    """The transforms do not mix images."""
    grad_output, weight = numbers(1, 3, *IMAGE[1:]), numbers(2, *FILTERS) - 0.5
    with allow_winograd(True):
        batch = conv2d_input(grad_output.shape, weight, grad_output, padding=1)
        images = [conv2d_input(IMAGE, weight, image[None], padding=1) for image in grad_output]
    assert torch.equal(batch, torch.cat(images))
