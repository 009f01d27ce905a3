"""Shared: a variational autoencoder with two hidden layers on each side (Kingma & Welling 2014)."""

from torch import Tensor, nn
from torch.nn.functional import softplus


class Autoencoder(nn.Module):
    """An encoder to the mean and log variance of q(z | x), and a decoder from z to outputs for each pixel (logits, or means)."""

    def __init__(self, pixels: int, width: int, latent: int) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(pixels, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU())
        self.posterior = nn.Linear(width, 2 * latent)
        self.decoder = nn.Sequential(
            nn.Linear(latent, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, pixels)
        )

    def forward(self, flat: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Mean and log variance of q(z | x), and the outputs for z = mean + deviation * ``noise``: flat [..., pixels]."""
        mean, log_variance = self.posterior(self.encoder(flat)).chunk(2, -1)
        return mean, log_variance, self.decoder(mean + (log_variance / 2).exp() * noise)


def divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(q(z | x) | p(z)) of a diagonal normal distribution from the standard one, summed over [..., latent]."""
    return (log_variance.exp() + mean.square() - 1 - log_variance).sum(-1) / 2


def log_likelihood(flat: Tensor, outputs: Tensor, likelihood: str) -> Tensor:
    """log p(x | z), summed over pixels [..., pixels]; of normal distributions without their constant."""
    if likelihood == "bernoulli":
        return (flat * outputs - softplus(outputs)).sum(-1)
    return -(flat - outputs).square().sum(-1) / 2
