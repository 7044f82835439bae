"""The package, its data files, its console script and what it needs."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(
    r'^__version__ = "(.+)"$', (HERE / "gitract_kit/__init__.py").read_text(encoding="utf-8"), re.M
)[1]

# Lower bounds only, at or below what Kaggle's notebook image held in autumn 2026: a bound that is too
# tight would make pip replace the image's torch or numpy.
REQUIREMENTS = [
    "torch>=2.4",
    "timm>=1.0.9",
    "segmentation-models-pytorch>=0.5",
    "albumentations>=2.0",
    "numpy>=1.26",
    "pandas>=2.1",
    # headless: servers and CI images have no libGL, and the kit opens no window
    "opencv-python-headless>=4.9",
    "scikit-learn>=1.4",
    "scipy>=1.11",
    "PyYAML>=6.0",
    "tqdm>=4.66",
    "matplotlib>=3.8",
    "safetensors>=0.4.3",
    "packaging>=23",
]
# What executes the kernels' notebooks outside Kaggle.
DEMO = ["nbclient>=0.10", "nbformat>=5.10", "ipykernel>=6.29"]
# The official client: what `gitract push` starts. It imports six without declaring it.
KAGGLE = ["kaggle>=2.2", "six>=1.16"]
TEST = [*DEMO, *KAGGLE, "pytest>=8.0", "hypothesis>=6.100", "ruff>=0.6"]
BENCHMARK = ["monai>=1.3", "surface-distance>=0.1", "pycocotools>=2.0.7"]

setup(
    name="gitract-kit",
    version=VERSION,
    description="From a raw UW-Madison GI Tract competition folder to a scored submission.csv, offline",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    python_requires=">=3.11",
    packages=find_packages(include=["gitract_kit", "gitract_kit.*"]),
    package_data={
        "gitract_kit": [
            "presets/*.yaml",
            "report/*.html",
            "report/page.css",
            "report/page.js",
            "shipping/*.json",
        ]
    },
    install_requires=REQUIREMENTS,
    extras_require={"demo": DEMO, "kaggle": KAGGLE, "test": TEST, "benchmark": BENCHMARK},
    entry_points={"console_scripts": ["gitract = gitract_kit.cli:main"]},
)
