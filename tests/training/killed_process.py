"""What the test of several processes has torchrun start: the command line, without dropout, and a killing on demand.

Each process drops out for itself, so that only a network without dropout can learn in two as in one. With KILLED in
the environment the second process is killed by the system's SIGKILL in its second epoch.
"""

from __future__ import annotations

import os
import signal

import torch

from gitract_kit.cli import main
from gitract_kit.training import trainer

step = trainer._Trainer._step


def killed_step(self, images, masks):
    if (self.processes.rank, self.epoch, self.batch) == (1, 1, 1):
        os.kill(os.getpid(), signal.SIGKILL)
    return step(self, images, masks)


if __name__ == "__main__":
    torch.nn.Dropout.forward = lambda self, features: features
    if "KILLED" in os.environ:
        trainer._Trainer._step = killed_step
    raise SystemExit(main())
