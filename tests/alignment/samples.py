"""Random token sets that look like CLIP's: unit norm, with a common direction, so that cosines lie around
0.3."""

import torch
import torch.nn.functional as F


def tokens(*shape, seed=0, common=0.7, dtype=torch.float32):
    """Random tokens that look like CLIP's: unit norm, with a common direction, so that cosines lie around 0.3."""
    generator = torch.Generator().manual_seed(seed)
    direction = torch.randn(shape[-1], generator=torch.Generator().manual_seed(99))
    return F.normalize(torch.randn(shape, generator=generator) + common * direction, dim=-1).to(dtype)


def weighted(image, text):
    """Tokens of these shapes, (1, M, P, d) and (C, N, L, d), and weights of both, (M, P) and (C, N, L); float64."""
    generator = torch.Generator().manual_seed(0)
    x, y = (tokens(*shape, seed=i, dtype=torch.float64) for i, shape in enumerate((image, text)))
    u, v = (torch.rand(*s, generator=generator, dtype=torch.float64) + 0.2 for s in (image[1:-1], text[:-1]))
    return x, y, u, v


def float64_transport(x, y, lengths, iterations, eps=0.1):
    """Costs (B, C, M, N) after a fixed number of iterations, and the gradients of their sum with the plans constant;
    all in float64, on the device of ``x``.
    """
    x, y = (t.detach().double().requires_grad_() for t in (x, y))
    costs = []
    for c, length in enumerate(lengths):
        cosine = torch.einsum("bmpd,nld->bmnpl", x, y[c, :, :length])
        with torch.no_grad():
            kernel = torch.exp((cosine - 1) / eps)
            right = torch.ones_like(kernel[..., :1, :])
            for _ in range(iterations):
                left = 1 / x.shape[2] / (kernel * right).sum(-1, keepdim=True)
                right = 1 / length / (kernel * left).sum(-2, keepdim=True)
            plan = kernel * left * right
        costs.append((plan * (1 - cosine)).sum((-2, -1)))
    costs = torch.stack(costs, dim=1)
    return costs.detach(), *torch.autograd.grad(costs.sum(), (x, y))
