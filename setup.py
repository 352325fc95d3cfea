"""Packaging of vidssl.

Configs, corpus scripts and measured results live at the top of the repository, where people look for them, and are
installed inside the package (vidssl/_share), where `vidssl.catalog` finds them.
"""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
SHARED = ("configs", "datasets", "results")
# The fork that is kept up: same module, wheels for Python 3.10 to 3.14. `pip check` calls decord 0.6 unsupported.
DECORD = "decord2>=3; sys_platform == 'linux' or platform_machine == 'arm64'"


def folders(top: str) -> list[str]:
    """Every folder of `top` that holds files to install, as paths relative to the repository."""
    files = [*(HERE / top).rglob("*.py"), *(HERE / top).rglob("*.json"), *(HERE / top).rglob("*.md")]
    return sorted({file.parent.relative_to(HERE).as_posix() for file in files})


shared = {f"vidssl._share.{folder.replace('/', '.')}": folder for top in SHARED for folder in folders(top)}

setup(
    name="vidssl",
    version=re.search(r'__version__ = "(.+)"', (HERE / "vidssl/__init__.py").read_text()).group(1),
    description="Self-supervised learning from video, sound and images, and the measurement of what was learned",
    long_description=(HERE / "README.md").read_text(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10",
    # Comparisons with peers (tools/audit.py, tools/benchmark.py) need a checkout; who installs the wheel runs none.
    packages=[
        *find_packages(
            include=["vidssl", "vidssl.*"], exclude=["vidssl.evidence.audit", "vidssl.evidence.benchmark"]
        ),
        *shared,
    ],
    package_dir=shared,
    package_data={"": ["*.py", "*.json", "*.md", "*.html"]},
    # Lower bounds alone, and no two that must fit each other: torchvision names its torch itself. Each is what
    # tests/oldest.txt names, which `make test-oldest` installs.
    install_requires=[
        "torch>=2.11",
        "torchvision>=0.26",
        "av>=17.1,<19",  # frames, stamps and matrices were compared with FFmpeg's program for these two
        "einops>=0.8",
        "jinja2>=3.1",
        "kornia>=0.8.2",
        "matplotlib>=3.9",
        "numpy>=1.26.4",
        "pillow>=12",
        "rich>=13.9",
        "safetensors>=0.5",
        "scipy>=1.13",
        "tensorboard>=2.21",
        "timm>=1.0.31",  # earlier ones leave a position table of 7 x 28 as it is for a grid of 14 x 14
        "tyro>=1.0.16",
    ],
    extras_require={
        "decord": [DECORD],
        "hf": ["transformers>=4.57.1"],
        "shards": ["fsspec[s3]>=2024.6"],  # shards in object stores; of other stores the error names the package
        "submitit": ["submitit>=1.5"],
        "torchaudio": [
            "torchaudio>=2.11"
        ],  # nothing of ours needs it; it is tested beside transformers, which does
        "torchcodec": ["torchcodec>=0.11"],
        "benchmark": [  # what tools/benchmark.py compares with, and what the scripts it compares with import
            DECORD,
            "faiss-cpu>=1.10",
            "imageio>=2.30",
            "lightly>=1.6",
            "opencv-python-headless>=4.10",
            "scikit-image>=0.24",
            "scikit-learn>=1.6",
            "torchcodec>=0.11",
            "tqdm>=4.60",
        ],
        "dev": [
            DECORD,
            "lightly>=1.6",  # what losses are compared with
            "mypy>=1.18",
            "pytest>=8.1",
            "pytest-xdist>=3.6",
            "ruff>=0.14",
            "scikit-learn>=1.6",
            "submitit>=1.5",
            "setuptools>=77",
            "torchaudio>=2.11",
            "torchcodec>=0.11",
            "transformers>=4.57.1",
            "webdataset>=1.0.2",
            "wheel",
        ],
    },
    entry_points={"console_scripts": ["vidssl = vidssl.cli:main"]},
    classifiers=[
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Programming Language :: Python :: 3.14",
        "Operating System :: POSIX :: Linux",
        "Operating System :: MacOS",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
)
