"""Train the file `torch_stacked.pt`: a PyTorch `nn.LSTM(5, 7, num_layers=2, bidirectional=True)`.

At every step of a noisy walk in five dimensions it tells the walk without the noise, from both its past and
its future. Run from the root of the repository, with PyTorch 2.13.0:

    python sample_weights/make_torch_sample.py
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

NOISE = 0.5


def walks(count: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw noisy walks and the walks themselves, (time, batch, features) each."""
    clean = torch.cumsum(0.2 * torch.randn(24, count, 5, generator=generator), dim=0)
    return clean + NOISE * torch.randn(clean.shape, generator=generator), clean


def main() -> None:
    """Train, print the error beside that of believing the noisy walk, and save the LSTM's state dict."""
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(1)
    lstm = nn.LSTM(5, 7, num_layers=2, bidirectional=True)
    head = nn.Linear(14, 5)
    optimiser = torch.optim.Adam([*lstm.parameters(), *head.parameters()], lr=0.01)
    for _ in range(1500):
        noisy, clean = walks(64, generator)
        loss = (head(lstm(noisy)[0]) - clean).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        noisy, clean = walks(1000, generator)
        error = (head(lstm(noisy)[0]) - clean).square().mean().sqrt()
    print(f"RMSE on walks it has not seen: {error:.3f}; of the noisy walks themselves: {NOISE:.3f}")
    torch.save(lstm.state_dict(), Path(__file__).with_name("torch_stacked.pt"))


if __name__ == "__main__":
    main()
