"""Save one small model in every way in which PyTorch keeps more than a state dict: ``python make_torch_containers.py``.

torch 2.13.
"""

from argparse import Namespace
from pathlib import Path, PosixPath

import numpy as np
import torch
from torch import nn

FOLDER = Path(__file__).parent


class Tagger(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(11, 3)
        self.lstm = nn.LSTM(3, 5, num_layers=2, bidirectional=True, batch_first=True)
        self.out = nn.Linear(10, 2)

    def forward(self, ids):
        return self.out(self.lstm(self.embed(ids))[0])


def main():
    torch.manual_seed(7)
    model, ids = Tagger().eval(), torch.ones(2, 3, dtype=torch.int64)
    torch.save(model, FOLDER / "whole_module.pt")
    torch.save(model, FOLDER / "whole_module_legacy.pt", _use_new_zipfile_serialization=False)
    torch.jit.save(torch.jit.script(model), FOLDER / "scripted.pt")
    torch.jit.save(torch.jit.trace(model, ids), FOLDER / "traced.pt")
    torch.export.save(torch.export.export(model, (ids,)), FOLDER / "exported.pt2")
    checkpoint = {
        "state_dict": model.state_dict(),
        "hyper_parameters": Namespace(lr=np.float64(0.1), folder=PosixPath("runs")),
        "loss": nn.MSELoss(),
    }
    torch.save(checkpoint, FOLDER / "checkpoint.ckpt")


if __name__ == "__main__":
    main()
