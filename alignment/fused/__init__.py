"""Transport on a GPU, as operators that autograd, torch.compile and CUDA graphs know; imported where Triton is.

    alignment.fused.token    transport between sets of tokens: forward, gradient and plans are an operator each
    alignment.fused.scored   scores of these sets, chunk by chunk
    alignment.fused.prompt   plans of dense costs between prompts
    alignment.fused.scaling  the iterations of both, in registers
    alignment.fused.sizes    how a kernel is cut to the sizes of a problem

The operators run where their tensors are: on a CUDA device, or on the CPU under Triton's interpreter
(TRITON_INTERPRET=1), which is how they are tested without a GPU. None of them waits for the device.
"""
