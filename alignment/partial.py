r"""Partial transport: a given mass m is moved, at most u from the rows and at most v to the columns [1, 2].

    T* = argmin { <T, C> - eps H(T) : T 1 <= u,  T' 1 <= v,  sum(T) = m }

Its plan is ``diag(r) K diag(c)``, too. Bregman's alternating projections [2] take the three sets in turn; here the mass
belongs to either side, so there are two, and to project onto

    { T : T 1 <= u, sum(T) = m }:    r = min(u / (K c), h),    h such that sum_j min(u_j, h (K c)_j) = m

is exact: what is above its bound is cut to it, and the others share what is left in proportion. Likewise for the
columns. The fixed point is that of the three projections, in fewer rounds. As m approaches all of the mass every bound
is met, h is infinite, and the iteration that of balanced transport, which mass 1 is.

[1] L. Caffarelli, R. McCann, Free boundaries in optimal transport and Monge-Ampere obstacle problems, Annals of
Mathematics 2010.
[2] J.-D. Benamou et al., Iterative Bregman projections for regularized transportation problems, SIAM Journal on
Scientific Computing 2015, proposition 5.
"""

from __future__ import annotations

import torch
from torch import Tensor


def cut_off(log_scaling: Tensor, bounds: Tensor, total: float, dim: int) -> Tensor:
    """log min(t, h) of the scalings t = u / a that meet the ``bounds`` u, with h such that sum_j min(u_j, h a_j) is
    ``total``; ``log_scaling`` is log t, -inf where u is zero.

    With the first k of the falling t above h, h is (total - the other u) / (the first k a): the sum is concave in h and
    the least of these lines, so h is the largest of what each k gives.
    """
    falling, order = log_scaling.sort(dim, descending=True)
    ordered = bounds.expand_as(log_scaling).gather(dim, order)
    others = ordered.sum(dim, keepdim=True) - ordered.cumsum(dim)
    shared = torch.where(ordered > 0, ordered.log() - falling, -torch.inf).logcumsumexp(dim)
    levels = (total - others).clamp_min(0).log() - shared
    return torch.minimum(log_scaling, levels.amax(dim, keepdim=True))
