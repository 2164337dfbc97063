"""APLe's image adapter (arXiv 2401.06827): a little of the image's own low-pass version mixed in."""

import numpy as np
import torch
from torch import Tensor, nn


class ImageAdapter(nn.Module):
    r"""Mix an image with its Gaussian low-pass version.

    .. math:: \bar I = \alpha I + (1 - \alpha) F^{-1}(G \cdot F(I)), \quad G(f) = \exp(-|f|^2 / 2 \sigma^2)

    The peak of G is one (the factor 1 / (2 pi sigma^2) of a density would brighten the image), so the mean of every
    channel is kept and the adapter commutes with per-channel normalisation. Nothing is learned.

    Args:
        sigma: width of G in cycles per pixel.
        alpha: share of the image itself.

    Raises:
        ValueError: sigma is not positive, or alpha is not between 0 and 1.
    """

    def __init__(self, sigma: float = 0.05, alpha: float = 0.9) -> None:
        super().__init__()
        if sigma <= 0:
            raise ValueError(f"sigma of the image adapter is {sigma}, it must be positive")
        if not 0 <= alpha <= 1:
            raise ValueError(f"alpha of the image adapter is {alpha}, it must lie between 0 and 1")
        self.sigma, self.alpha = sigma, alpha

    def forward(self, images: Tensor) -> Tensor:
        """Images (..., H, W) of any channels -> the same shape and dtype."""
        height, width = images.shape[-2:]
        if getattr(torch.compiler, "is_exporting", bool)():  # which torch can tell from 2.7 on
            return self._by_products(images)
        f_y = torch.fft.fftfreq(height, device=images.device)[:, None]
        f_x = torch.fft.rfftfreq(width, device=images.device)
        low_pass = torch.exp(-(f_y**2 + f_x**2) / (2 * self.sigma**2))
        spectrum = torch.fft.rfft2(images.float()) * (self.alpha + (1 - self.alpha) * low_pass)
        return torch.fft.irfft2(spectrum, s=(height, width)).to(images.dtype)

    def _by_products(self, images: Tensor) -> Tensor:
        """The same for graphs of formats that know no Fourier transform: the Gaussian is one of rows times columns."""
        down, across = (
            torch.from_numpy(_low_pass(n, self.sigma)).to(images.device) for n in images.shape[-2:]
        )
        low = down @ images.float() @ across
        return (self.alpha * images.float() + (1 - self.alpha) * low).to(images.dtype)


def _low_pass(n: int, sigma: float) -> np.ndarray:
    """(n, n) symmetric matrix that passes n values through the Gaussian, fp32."""
    frequencies, places = np.fft.fftfreq(n), np.arange(n)
    waves = np.exp(2j * np.pi * np.outer(places, frequencies))
    return ((waves * np.exp(-(frequencies**2) / (2 * sigma**2))) @ waves.conj().T / n).real.astype(np.float32)
