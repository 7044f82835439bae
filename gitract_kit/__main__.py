"""``python -m gitract_kit``: the same as ``gitract``, and what torchrun starts."""

from gitract_kit.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
