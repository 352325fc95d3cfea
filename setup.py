"""Packaging of vidssl.

Configs, corpus scripts and measured results live at the top of the repository, where people look for them, and are
installed inside the package (vidssl/_share), where `vidssl.catalog` finds them.
"""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
SHARED = ("configs", "datasets", "results")


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
    packages=[*find_packages(include=["vidssl", "vidssl.*"]), *shared],
    package_dir=shared,
    package_data={"": ["*.py", "*.json", "*.md", "*.html"]},
    install_requires=[
        "torch==2.11.*",
        "torchvision==0.26.*",
        "torchaudio==2.11.*",
        "av>=17,<19",
        "decord>=0.6; sys_platform == 'linux' and platform_machine == 'x86_64'",
        "einops>=0.8",
        "jinja2>=3.1",
        "kornia>=0.9",
        "matplotlib>=3.9",
        "numpy>=1.26",
        "pillow>=11",
        "rich>=13.9",
        "safetensors>=0.5",
        "scipy>=1.13",
        "tensorboard>=2.21",
        "timm>=1.0.20,<1.1",
        "tyro>=1.0",
    ],
    extras_require={
        "decord": ["decord>=0.6"],
        "hf": ["transformers>=4.57.1"],
        "shards": ["fsspec[s3]>=2024.6"],  # shards in object stores; of other stores the error names the package
        "submitit": ["submitit>=1.5"],
        "torchcodec": ["torchcodec==0.11.*"],
        "benchmark": [  # what tools/benchmark.py compares with, and what the scripts it compares with import
            "decord>=0.6; sys_platform == 'linux' and platform_machine == 'x86_64'",
            "faiss-cpu>=1.10",
            "imageio>=2.30",
            "opencv-python-headless>=4.10",
            "scikit-image>=0.24",
            "scikit-learn>=1.6",
            "torchcodec==0.11.*",
            "tqdm>=4.60",
        ],
        "dev": [
            "mypy>=1.18",
            "pytest>=8",
            "pytest-xdist>=3.6",
            "ruff>=0.14",
            "scikit-learn>=1.6",
            "submitit>=1.5",
            "setuptools>=77,<82",  # torch 2.11 wants less than 82
            "torchcodec==0.11.*",
            "transformers>=4.57.1",
            "webdataset>=1.0",
            "wheel",
        ],
    },
    entry_points={"console_scripts": ["vidssl = vidssl.cli:main"]},
    classifiers=[
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Operating System :: POSIX :: Linux",
        "Operating System :: MacOS",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
)
