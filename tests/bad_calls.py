"""Calls of conv2d that are refused, by name and reason."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

INPUT, WEIGHT, OUTPUT = (2, 4, 5, 5), (6, 4, 3, 3), (2, 6, 3, 3)
RAW = torch.ops.convgrad_ext


@dataclass(frozen=True)
class BadCall:
    """A call of conv2d that PyTorch refuses, with sizes in the place of tensors."""

    name: str
    reason: str
    input: tuple[int, ...] = INPUT
    weight: tuple[int, ...] = WEIGHT
    bias: tuple[int, ...] | None = None
    bias_dtype: torch.dtype = torch.float32
    params: dict[str, Any] = field(default_factory=dict)

    def tensors(self) -> list[Tensor | None]:
        bias = None if self.bias is None else torch.ones(self.bias, dtype=self.bias_dtype)
        return [torch.ones(self.input), torch.ones(self.weight), bias]

    def __str__(self) -> str:
        return self.name


def bad(name: str, reason: str, **arguments: Any) -> BadCall:
    """Tensors' sizes by name; every other argument goes to conv2d."""
    own = {k: arguments.pop(k) for k in ("input", "weight", "bias", "bias_dtype") if k in arguments}
    return BadCall(name, reason, **own, params=arguments)


BAD_CALLS = [
    bad("channels_differ", "weight and input disagree", weight=(6, 3, 3, 3)),
    bad(
        "channels_differ_grouped", "the groups multiply the weight's", weight=(6, 3, 3, 3), groups=2
    ),
    bad("channels_differ_unbatched", "one image", input=(4, 5, 5), weight=(6, 3, 3, 3)),
    bad("no_channels_in_input", "zero is not four", input=(2, 0, 5, 5)),
    bad("kernel_exceeds_input", "no output would be left", weight=(6, 4, 7, 3)),
    bad("kernel_exceeds_one_axis", "the width alone", weight=(6, 4, 3, 6)),
    bad("kernel_exceeds_padded_input", "padding does not help", weight=(6, 4, 9, 3), padding=1),
    bad("kernel_exceeds_input_dilated", "the span counts, 7, not the 3 taps", dilation=3),
    bad("kernel_exceeds_input_unbatched", "one image", input=(4, 5, 5), weight=(6, 4, 7, 3)),
    bad("stride_zero", "outputs on top of one another", stride=0),
    bad("stride_negative", "outputs run backwards", stride=-1),
    bad("stride_zero_on_one_axis", "either axis counts", stride=(1, 0)),
    bad("stride_zero_on_the_other_axis", "either axis counts", stride=(0, 1)),
    bad("dilation_zero", "taps on top of one another", dilation=0),
    bad("dilation_negative", "a sentence of its own in PyTorch", dilation=-1),
    bad("dilation_zero_on_one_axis", "either axis counts", dilation=(1, 0)),
    bad("dilation_negative_on_one_axis", "either axis counts", dilation=(-1, 1)),
    bad("padding_negative", "would crop", padding=-1),
    bad("padding_negative_on_one_axis", "either axis counts", padding=(0, -1)),
    bad("groups_do_not_divide_outputs", "6 = 4 * 1 + 2", weight=(6, 1, 3, 3), groups=4),
    bad(
        "groups_do_not_divide_inputs",
        "5 = 2 * 2 + 1",
        input=(2, 5, 5, 5),
        weight=(6, 2, 3, 3),
        groups=2,
    ),
    bad("groups_exceed_outputs", "some group would be empty", weight=(6, 1, 3, 3), groups=7),
    bad("groups_zero", "nothing to divide into", groups=0),
    bad("groups_negative", "nothing to divide into", groups=-1),
    bad("no_outputs", "a weight without filters", weight=(0, 4, 3, 3)),
    bad("input_of_rank_0", "a number is no image", input=()),
    bad("input_of_rank_2", "channels must be named", input=(5, 5)),
    bad("input_of_rank_5", "a video is no image", input=(1, 2, 4, 5, 5)),
    bad("weight_of_rank_0", "a number is no filter", weight=()),
    bad("weight_of_rank_1", "a vector is no filter", weight=(3,)),
    bad("weight_of_rank_2", "a matrix is no filter", weight=(3, 3)),
    bad("weight_of_rank_3", "a filter of conv1d", weight=(6, 4, 3)),
    bad("weight_of_rank_5", "a filter of conv3d", weight=(6, 4, 3, 3, 3)),
    bad("weight_of_rank_3_unbatched", "both of rank 3", input=(4, 5, 5), weight=(6, 4, 3)),
    bad(
        "input_of_rank_0_same",
        "padding asks for an extent that is not there",
        input=(),
        padding="same",
    ),
    bad(
        "input_of_rank_1_same",
        "padding asks for an extent that is not there",
        input=(5,),
        padding="same",
    ),
    bad("input_of_rank_2_same", "the padding is no matter", input=(5, 5), padding="same"),
    bad("weight_of_rank_3_same", "PyTorch names the ranks here", weight=(6, 4, 3), padding="same"),
    bad(
        "weight_of_rank_5_same",
        "PyTorch names the ranks here",
        weight=(6, 4, 3, 3, 3),
        padding="same",
    ),
    bad("bias_too_short", "one output has none", bias=(5,)),
    bad("bias_too_long", "one number has no output", bias=(7,)),
    bad("bias_of_one", "is not broadcast", bias=(1,)),
    bad("bias_of_rank_0", "a number is not broadcast", bias=()),
    bad("bias_of_rank_2", "a column is no vector", bias=(6, 1)),
    bad("bias_double", "a dtype of its own", bias=(6,), bias_dtype=torch.float64),
    bad("bias_half", "a dtype of its own", bias=(6,), bias_dtype=torch.float16),
    bad("bias_of_integers", "a dtype of its own", bias=(6,), bias_dtype=torch.int64),
    bad(
        "bias_double_and_short",
        "of two faults, the error names the dtype",
        bias=(5,),
        bias_dtype=torch.float64,
    ),
    bad("stride_of_three", "two axes", stride=(1, 1, 1)),
    bad("stride_of_none", "two axes", stride=()),
    bad("padding_of_three", "two axes", padding=[1, 1, 1]),
    bad("padding_of_four", "is not (top, bottom, left, right)", padding=[1, 1, 1, 1]),
    bad("padding_of_none", "two axes", padding=()),
    bad("dilation_of_three", "two axes", dilation=(1, 1, 1)),
    bad("dilation_of_none", "two axes", dilation=[]),
    bad("padding_unknown", "a name of scipy's", padding="full"),
    bad("padding_in_capitals", "names are exact", padding="SAME"),
    bad("padding_without_name", "names are not empty", padding=""),
    bad("same_dilation_zero", "'same' divides by nothing of it", padding="same", dilation=0),
    bad(
        "height_zero",
        "padding alone is no image",
        input=(2, 4, 0, 5),
        weight=(6, 4, 1, 1),
        padding=1,
    ),
    bad(
        "width_zero_unbatched",
        "padding alone is no image",
        input=(4, 5, 0),
        weight=(6, 4, 1, 1),
        padding=1,
    ),
    bad("height_zero_under_kernel", "the error names the kernel first", input=(2, 4, 0, 5)),
    bad(
        "channels_zero_and_bias_short",
        "bias fits no channels",
        input=(2, 0, 5, 5),
        weight=(6, 0, 3, 3),
        bias=(5,),
    ),
]


INT_OR_PAIR = "an int or a tuple of two ints"
PADDING = "an int, (vertical, horizontal), ((top, bottom), (left, right)), 'same' or 'valid'"

WRONG_TYPES = [
    pytest.param("stride", 1.5, INT_OR_PAIR, id="stride_float"),
    pytest.param("stride", "a", INT_OR_PAIR, id="stride_string"),
    pytest.param("stride", True, INT_OR_PAIR, id="stride_bool"),
    pytest.param("stride", None, INT_OR_PAIR, id="stride_none"),
    pytest.param("stride", (1.5, 1), INT_OR_PAIR, id="stride_tuple_with_float"),
    pytest.param("stride", ((1,), (1,)), INT_OR_PAIR, id="stride_nested"),
    pytest.param("stride", range(1, 3), INT_OR_PAIR, id="stride_range"),
    pytest.param("stride", torch.tensor(1.5), INT_OR_PAIR, id="stride_tensor_of_float"),
    pytest.param("stride", np.float64(2.0), INT_OR_PAIR, id="stride_numpy_float"),
    pytest.param("stride", np.array([2, 1]), INT_OR_PAIR, id="stride_numpy_array"),
    pytest.param("dilation", 2.0, INT_OR_PAIR, id="dilation_float"),
    pytest.param("dilation", (None, 1), INT_OR_PAIR, id="dilation_tuple_with_none"),
    pytest.param("padding", 1.0, PADDING, id="padding_float"),
    pytest.param("padding", True, PADDING, id="padding_bool"),
    pytest.param("padding", None, PADDING, id="padding_none"),
    pytest.param("padding", (1, 1.0), PADDING, id="padding_tuple_with_float"),
    pytest.param("padding", ((1, 2),), PADDING, id="padding_one_pair"),
    pytest.param("padding", ((1, 2), (1,)), PADDING, id="padding_pair_and_single"),
    pytest.param("padding", (1, (1, 1)), PADDING, id="padding_int_and_pair"),
    pytest.param("padding", ((1, 2), (0.5, 1)), PADDING, id="padding_pairs_with_float"),
    pytest.param("padding", ((1, 1), (1, 1), (1, 1)), PADDING, id="padding_three_pairs"),
    pytest.param("groups", 1.0, "an int", id="groups_float"),
    pytest.param("groups", True, "an int", id="groups_bool"),
    pytest.param("groups", None, "an int", id="groups_none"),
    pytest.param("groups", (1,), "an int", id="groups_tuple"),
]


PARAMS = ((1, 1), (0, 0, 0, 0), (1, 1), 1)
