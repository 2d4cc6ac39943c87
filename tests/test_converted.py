"""Half precision and complex numbers, which are converted for the tiles some images at a time."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from test_passes import Formats, check_rounding
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

import convgrad_ext
from convgrad_ext.cases import Case

sys.path.append(str(Path(__file__).parents[1] / "examples"))
import train_digits

HALVES = [torch.float16, torch.bfloat16]
# An image of float32 and its result take more than the memory of a slice.
LARGE = Case("large", "a slice an image", N=3, channels=(16, 12), image=(200, 230), padding=1)
GROUPS = Case("groups", "parts stay within a group", channels=(6, 4), image=(7, 8), groups=2)

LAYOUT = pytest.mark.parametrize(
    "formats", [Formats(), Formats(*[torch.channels_last] * 2)], ids=["nchw", "channels_last"]
)


def images_at_a_time(case: Case, dtype: torch.dtype) -> set[str]:
    image, weight = (torch.empty(size, dtype=dtype) for size in (case.input_size, case.weight_size))
    found = convgrad_ext.plans(image, weight, None, **case.params)
    return {plan.blocking["images converted at a time"] for plan in found}


def whole(size: Sequence[int], dtype: torch.dtype, formats: torch.memory_format) -> Tensor:
    """Numbers whose products and sums are exact in float32, in both parts of a complex one."""
    generator = torch.Generator().manual_seed(len(size) + size[0])
    parts = [torch.randint(-2, 3, tuple(size), generator=generator).float() for _ in range(2)]
    numbers = torch.complex(*parts) if dtype.is_complex else parts[0]
    return numbers.to(dtype).contiguous(memory_format=formats)


@pytest.mark.parametrize("dtype", [*HALVES, torch.complex64], ids=str)
@LAYOUT
def test_slices_make_the_batch(dtype: torch.dtype, formats: Formats) -> None:
    """The exact result, rounded once. grad_weight adds slices up in float32."""
    assert str(LARGE.N) not in images_at_a_time(LARGE, dtype)
    precise = torch.complex128 if dtype.is_complex else torch.float64
    x, w = (whole(size, dtype, formats.images) for size in (LARGE.input_size, LARGE.weight_size))
    y = whole(LARGE.torch_conv2d(x.to(precise), w.to(precise)).shape, dtype, formats.images)
    leaves = [t.to(precise).requires_grad_() for t in (x, w)]
    exact = LARGE.torch_conv2d(*leaves)
    gradients = torch.autograd.grad(exact, leaves, y.to(precise))
    for actual, expected in (
        (convgrad_ext.conv2d(x, w, padding=1), exact),
        (convgrad_ext.conv2d_input(x.shape, w, y, padding=1), gradients[0]),
        (convgrad_ext.conv2d_weight(x, w.shape, y, padding=1), gradients[1]),
    ):
        assert torch.equal(actual, expected.to(dtype))


def test_small_images_are_converted_together() -> None:
    assert images_at_a_time(GROUPS, torch.bfloat16) == {str(GROUPS.N)}


@LAYOUT
def test_complex_channels_stay_within_their_group(formats: Formats) -> None:
    check_rounding(GROUPS, torch.complex64, formats)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.complex64], ids=str)
def test_digits_are_those_of_any_number_of_threads(dtype: torch.dtype) -> None:
    x, w, _ = (t.to(dtype) for t in LARGE.tensors(torch.float32))
    y = convgrad_ext.conv2d(x, w, padding=1)
    before, results = torch.get_num_threads(), []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        results.append(convgrad_ext.conv2d_weight(x, w.shape, y, padding=1))
    torch.set_num_threads(before)
    assert torch.equal(*results)


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8], ids=str)
def test_integers_of_eight_bits_wrap_as_the_reference_has_them(dtype: torch.dtype) -> None:
    """All of their numbers, over several slices."""
    generator = torch.Generator().manual_seed(0)
    x, w = (
        torch.randint(0, 256, size, generator=generator).to(dtype)
        for size in (LARGE.input_size, LARGE.weight_size)
    )
    bias = torch.randint(0, 256, LARGE.weight_size[:1], generator=generator).to(dtype)

    def passes() -> tuple[Tensor, ...]:
        y = convgrad_ext.conv2d(x, w, bias, padding=1)
        return (
            y,
            convgrad_ext.conv2d_input(x.shape, w, y, padding=1),
            convgrad_ext.conv2d_weight(x, w.shape, y, padding=1),
        )

    with convgrad_ext.use_kernel("reference"):
        expected = passes()
    for actual, exact in zip(passes(), expected, strict=True):
        assert torch.equal(actual, exact)


@pytest.mark.parametrize("dtype", [*HALVES, torch.complex64, torch.complex128], ids=str)
def test_an_empty_batch_has_a_gradient_of_zero(dtype: torch.dtype) -> None:
    none = torch.empty(0, 4, 6, 6, dtype=dtype)
    assert not convgrad_ext.conv2d_weight(none, (4, 4, 3, 3), none, padding=1).any()


@pytest.mark.parametrize("dtype", [*HALVES, torch.complex64], ids=str)
def test_a_view_is_read_and_a_conjugate_resolved(dtype: torch.dtype) -> None:
    """Steps between elements, and a lazy conjugation, are the tensor's, not its memory's."""
    x, w, _ = (t.to(dtype) for t in GROUPS.tensors(torch.float32))
    wide = torch.stack((x, torch.full_like(x, torch.nan)), dim=-1)[..., 0].conj()
    actual = convgrad_ext.conv2d(wide, w.conj(), groups=2)
    expected = convgrad_ext.conv2d(x.conj().clone(), w.conj().clone(), groups=2)
    assert torch.equal(actual, expected)


# Sums in another dtype


def gradients(conv2d: object, *tensors: Tensor) -> Sequence[Tensor]:
    leaves = [tensor.clone().requires_grad_() for tensor in tensors]
    output = conv2d(*leaves)  # type: ignore[operator]
    return output.detach(), *torch.autograd.grad(output.square().sum(), leaves)


@pytest.mark.parametrize(
    ("dtype", "wide"),
    [
        (torch.float32, torch.float64),
        (torch.bfloat16, torch.float64),
        (torch.float16, torch.float32),
    ],
    ids=str,
)
def test_accumulate_rounds_the_wider_result_once(dtype: torch.dtype, wide: torch.dtype) -> None:
    tensors = [t.to(dtype) for t in LARGE.tensors(torch.float64)]
    x, w, b = (t.to(wide).requires_grad_() for t in tensors)
    expected = convgrad_ext.conv2d(x, w, b, padding=1).to(dtype)
    expected.square().sum().backward()
    for actual, exact in zip(
        gradients(lambda *t: convgrad_ext.conv2d(*t, padding=1, accumulate=wide), *tensors),
        (expected, x.grad, w.grad, b.grad),
        strict=True,
    ):
        assert torch.equal(actual, exact.to(dtype))


def test_accumulate_stays_as_wide_under_autocast() -> None:
    tensors = [t.bfloat16() for t in GROUPS.tensors(torch.float64)]
    expected = convgrad_ext.conv2d(*tensors, groups=2, accumulate=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        inside = convgrad_ext.conv2d(*tensors, groups=2, accumulate=torch.float32)
    assert torch.equal(inside, expected)


@pytest.mark.parametrize(
    ("dtype", "accumulate", "known"),
    [
        (torch.float32, torch.float16, "torch.float64"),
        (torch.float64, torch.float64, "None"),
        (torch.bfloat16, torch.int32, "torch.float32 or torch.float64"),
        (torch.complex64, torch.float64, "torch.complex128"),
    ],
    ids=str,
)
def test_accumulate_has_to_be_wider(
    dtype: torch.dtype, accumulate: torch.dtype, known: str
) -> None:
    image = torch.ones(1, 1, 3, 3, dtype=dtype)
    sentence = f"accumulate must be {known} for {dtype}, but got {accumulate}"
    with pytest.raises(ValueError, match=sentence):
        convgrad_ext.conv2d(image, image, accumulate=accumulate)


def test_accumulate_brings_no_operands_together() -> None:
    image = torch.ones(1, 1, 3, 3)
    with pytest.raises(RuntimeError, match="should be the same"):
        convgrad_ext.conv2d(image, image.half(), accumulate=torch.float64)


def test_accumulate_names_a_bias_that_is_no_tensor() -> None:
    image = torch.ones(1, 1, 3, 3)
    with pytest.raises(TypeError, match="bias must be a Tensor"):
        convgrad_ext.conv2d(image, image, [1.0], accumulate=torch.float64)


# Training


class Casts(TorchDispatchMode):
    """Counts the conversions of tensors of this size."""

    def __init__(self, size: torch.Size) -> None:
        super().__init__()
        self.size, self.count = size, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        self.count += func is torch.ops.aten._to_copy.default and args[0].shape == self.size
        return func(*args, **kwargs or {})


@pytest.mark.parametrize("conv2d", [F.conv2d, convgrad_ext.conv2d], ids=["torch", "ours"])
def test_autocast_converts_a_weight_once(conv2d: object) -> None:
    """Within a region, as PyTorch's cache has it; a tensor that is no leaf each time."""
    x, w = torch.ones(1, 2, 5, 5), nn.Parameter(torch.ones(3, 2, 3, 3))
    with Casts(w.shape) as casts, torch.autocast("cpu", torch.bfloat16):
        for _ in range(3):
            conv2d(x, w)  # type: ignore[operator]
        assert casts.count == 1
        for _ in range(3):
            conv2d(x, w.detach())  # type: ignore[operator]
    assert casts.count == 4


@torch.no_grad()
def share_right(model: nn.Module, images: Tensor, digits: Tensor) -> float:
    return (model(images).argmax(dim=1) == digits).double().mean().item()


def test_the_digits_are_learned_in_bfloat16() -> None:
    """As well as in float32, but for half a percent: two of the 450 test images."""
    (images, digits), test = train_digits.load(0)
    batches = train_digits.shuffled_batches(images.float(), digits, epochs=10, seed=0)
    shares = []
    for enabled in (False, True):
        model = train_digits.digits_network(convgrad_ext.Conv2d, seed=0).float()
        optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9, weight_decay=1e-3)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=len(batches))
        for part, labels in batches:
            with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
                loss = F.cross_entropy(model(part), labels, label_smoothing=0.1)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            shares.append(share_right(model.eval(), test[0].float(), test[1]))
    assert shares[0] > train_digits.REQUIRED_ACCURACY
    assert shares[1] >= shares[0] - 0.005
