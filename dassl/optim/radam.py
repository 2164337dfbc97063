"""RAdam as Dassl has it."""

import torch


class RAdam(torch.optim.RAdam):
    """torch's RAdam with decoupled weight decay, which is the form that Dassl's configs mean.

    Source: Liu et al., On the Variance of the Adaptive Learning Rate and Beyond, ICLR 2020.
    """

    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0):
        super().__init__(params, lr, betas, eps, weight_decay, decoupled_weight_decay=True)
