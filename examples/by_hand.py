# %% [markdown]
# # The gradients of a small convolution, by hand
#
# The image 1 to 16 under a kernel of 2x2, with stride 1 and with stride 2. Each gradient is
# computed three times: as a sum over meetings, as a convolution, and by autograd.
#
# This is `by_hand.py` and `by_hand.ipynb`: the first runs with Python, the second is made from it
# with `make notebook`.

# %%
from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

import convgrad_ext

image = torch.arange(1.0, 17, dtype=torch.float64).view(1, 1, 4, 4)
kernel = torch.tensor([[1.0, -1.0], [2.0, 3.0]], dtype=torch.float64).view(1, 1, 2, 2)

# %% [markdown]
# ## Sums over meetings
#
# Input `i`, output `o` and tap `k` meet where `i = o*stride + k`, along both axes. Each product in
# an output belongs to one meeting, and so does each product in a gradient.


# %%
def by_meetings(grad_output: Tensor, stride: int) -> tuple[Tensor, Tensor]:
    """grad_input and grad_weight: two loops over outputs, two over taps."""
    grad_input, grad_weight = torch.zeros_like(image), torch.zeros_like(kernel)
    height, width = grad_output.shape[2:]
    for h_out in range(height):
        for w_out in range(width):
            for k_h in range(2):
                for k_w in range(2):
                    h_in, w_in = h_out * stride + k_h, w_out * stride + k_w
                    grad = grad_output[0, 0, h_out, w_out]
                    grad_input[0, 0, h_in, w_in] += grad * kernel[0, 0, k_h, k_w]
                    grad_weight[0, 0, k_h, k_w] += grad * image[0, 0, h_in, w_in]
    return grad_input, grad_weight


# %% [markdown]
# ## Convolutions
#
# `grad_weight` is the correlation of the image with `grad_output`, its numbers `stride` pixels
# apart. `grad_input` is that of the flipped kernel with `grad_output`, spread out by the stride.


# %%
def by_convolutions(grad_output: Tensor, stride: int) -> tuple[Tensor, Tensor]:
    grad_weight = F.conv2d(image, grad_output, dilation=stride)[..., :2, :2]
    height, width = (stride * (size - 1) + 1 for size in grad_output.shape[2:])
    spread = torch.zeros(1, 1, height, width, dtype=torch.float64)
    spread[..., ::stride, ::stride] = grad_output
    return F.conv2d(F.pad(spread, (1, 1, 1, 1)), kernel.flip(2, 3)), grad_weight


# %% [markdown]
# ## Autograd, through the loops of this package


# %%
def by_autograd(grad_output: Tensor, stride: int) -> tuple[Tensor, Tensor]:
    leaves = image.clone().requires_grad_(), kernel.clone().requires_grad_()
    output = convgrad_ext.conv2d(*leaves, stride=stride)
    grad_input, grad_weight = torch.autograd.grad(output, leaves, grad_output)
    return grad_input, grad_weight


# %% [markdown]
# ## Both strides

# %%
for stride, size in ((1, 3), (2, 2)):
    grad_output = torch.arange(1.0, 1 + size**2, dtype=torch.float64).view(1, 1, size, size)
    ways = [way(grad_output, stride) for way in (by_meetings, by_convolutions, by_autograd)]
    for other in ways[1:]:
        assert all(map(torch.equal, ways[0], other))
    grad_input, grad_weight = ways[0]
    print(f"stride {stride}, grad_output 1 to {size**2}")
    print("grad_weight", grad_weight[0, 0].tolist())
    print("grad_input ", grad_input[0, 0].tolist())
