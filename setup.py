"""Packaging: loose ranges here, the exact versions that the project is tested with in requirements/lock.txt."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(r"__version__ = '(.+)'", (HERE / 'qsdt_mm/version.py').read_text()).group(1)

CORE = [
    'torch>=2.1',
    'torchvision>=0.16',
    'numpy>=1.26',
    'onedl-mmengine>=0.10.12',
    'onedl-mmcv>=2.3.6',
    'onedl-mmpretrain>=1.3.6',
    'timm>=1.0',
    'matplotlib>=3.7',
    'tensorboard>=2.15',
]
DET = ['onedl-mmdetection>=3.5.1', 'pycocotools>=2.0.6']
SEG = ['onedl-mmsegmentation>=1.4.2', 'ftfy', 'regex']
DEMO = ['scikit-learn>=1.3']
# SpikingJelly is compared with in tests; nothing else imports it.
DEV = [
    'pytest>=8',
    'pytest-xdist>=3.5',
    'hypothesis>=6.100',
    'ruff>=0.9',
    'spikingjelly>=2.0; python_version >= "3.11"',
]

setup(
    name='qsdt_mm',
    version=VERSION,
    description='Quantized, spike-driven vision transformers for OpenMMLab',
    long_description=(HERE / 'README.md').read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    python_requires='>=3.10',
    packages=find_packages(include=['qsdt_mm', 'qsdt_mm.*']),
    install_requires=CORE,
    extras_require=dict(det=DET, seg=SEG, demo=DEMO, dev=DET + SEG + DEMO + DEV, all=DET + SEG + DEMO),
    keywords=['spiking neural network', 'vision transformer', 'quantization', 'OpenMMLab'],
    classifiers=[
        'Development Status :: 3 - Alpha',
        'Intended Audience :: Science/Research',
        'Programming Language :: Python :: 3',
        'Programming Language :: Python :: 3.10',
        'Programming Language :: Python :: 3.11',
        'Programming Language :: Python :: 3.12',
        'Topic :: Scientific/Engineering :: Artificial Intelligence',
    ],
)
