"""Packaging: loose ranges here, the exact versions that the project is tested with in requirements/lock.txt."""

import atexit
import re
import shutil
import tempfile
from pathlib import Path

from setuptools import Distribution, find_packages, setup

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
    'safetensors>=0.4',
    'huggingface_hub>=0.20',
    'matplotlib>=3.7',
    'jinja2>=3.1',
    'tensorboard>=2.15',
]
DET = ['onedl-mmdetection>=3.5.1', 'pycocotools>=2.0.6']
SEG = ['onedl-mmsegmentation>=1.4.2', 'ftfy', 'regex']
DEMO = ['scikit-learn>=1.3']
# Files for other runtimes; OpenVINO takes them as they are, too. Torch's own exporter, for networks in floats, needs
# onnxscript.
DEPLOY = ['onnx>=1.16', 'onnxscript>=0.3', 'onnxruntime>=1.18']
DEPLOY_OPENVINO = [*DEPLOY, 'openvino>=2024.0']
DEPLOY_NIR = ['nir>=1.0.8', 'h5py>=3.8']
# Files of event cameras: AEDAT 4.0, and HDF5 with the usual compressions.
EVENTS = ['aedat>=2.0', 'h5py>=3.8', 'hdf5plugin>=4.0']
# SpikingJelly is compared with in tests; nothing else imports it.
DEV = [
    'pytest>=8',
    'pytest-xdist>=3.5',
    'hypothesis>=6.100',
    'ruff>=0.9',
    'spikingjelly>=2.0; python_version >= "3.11"',
]

# mim looks for .mim beside the first file that pip lists of an installation (onedl-mim) or in the folder of the module
# (openmim). pip lists by name, and qsdt_mm-VERSION.dist-info comes before qsdt_mm: so a package that comes before both
# has a .mim, too. For the same reason there are no console scripts, whose bin/ would be listed first.
MIM_PACKAGES = ('_qsdt_mm', 'qsdt_mm')
MIM_SUFFIXES = ('.py', '.sh', '.yml')
WEIGHT_FILES = ('config.json', 'model.safetensors', 'README.md')
PTH = 'qsdt_mm/compat/startup/qsdt_mm.pth'


def description() -> str:
    """Return the README for a page on its own: files of the tree are named, not linked, and their pictures left out."""
    own = r'(?![a-z]+:|#)'  # neither an address nor a place on the page
    pictures = re.compile(rf'!\[[^]]*\]\({own}[^)]*\)\n?|<(img|source)\b[^>]*\b(src|srcset)="{own}[^>]*>\n?')
    links = re.compile(rf'\[([^]]+)\]\({own}([^)\s#]+)[^)]*\)')
    tags = re.compile(rf'<a\b[^>]*\bhref="{own}[^>]*>(.*?)</a>', re.DOTALL)
    text = pictures.sub('', (HERE / 'README.md').read_text(encoding='utf-8'))
    text = links.sub(lambda link: link[1] if link[1] == link[2] else f'{link[1]} ({link[2]})', text)
    return tags.sub(r'\1', text)


def mim_files() -> list[tuple[str, list[str]]]:
    """What .mim holds, once for each package: folder in the wheel, files."""
    files = [Path('model-index.yml'), Path('dataset-index.yml'), Path('demo/digit.png')]
    for room in ('configs', 'tools', 'demo'):
        files += sorted(path.relative_to(HERE) for path in (HERE / room).rglob('*') if path.suffix in MIM_SUFFIXES)
    return [
        ((Path(package) / '.mim' / file.parent).as_posix(), [file.as_posix()])
        for package in MIM_PACKAGES
        for file in files
    ]


def weight_files() -> list[tuple[str, list[str]]]:
    """Return the networks that come with the package, once: folder in the wheel, files."""
    folders = sorted(path.parent.relative_to(HERE) for path in (HERE / 'weights').glob('*/config.json'))
    return [
        (f'qsdt_mm/{folder.as_posix()}', [(folder / name).as_posix() for name in WEIGHT_FILES]) for folder in folders
    ]


# What is built stays out of the tree: what an earlier build left there would end in the wheel, and mim would search it.
OUTSIDE = tempfile.mkdtemp(prefix='qsdt_mm-')
atexit.register(shutil.rmtree, OUTSIDE, ignore_errors=True)


class Parts(Distribution):
    """Has data files under the name by which an editable build asks for them, too."""

    has_data = Distribution.has_data_files


class InstallBeside(Distribution().get_command_class('install_data')):
    """Puts data files where packages are installed; of an editable installation, where mim finds the tree, the .pth."""

    def finalize_options(self) -> None:
        self.set_undefined_options('install', ('install_lib', 'install_dir'))
        super().finalize_options()
        if self.get_finalized_command('build_py').editable_mode:
            self.data_files = [(folder, files) for folder, files in self.data_files if files == [PTH]]


setup(
    name='qsdt_mm',
    version=VERSION,
    description='Quantized, spike-driven vision transformers for OpenMMLab',
    long_description=description(),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    python_requires='>=3.10',
    packages=[*find_packages(include=['qsdt_mm', 'qsdt_mm.*']), '_qsdt_mm'],
    package_dir={'_qsdt_mm': 'qsdt_mm/compat/startup'},
    data_files=[('', [PTH]), *mim_files(), *weight_files()],
    distclass=Parts,
    cmdclass=dict(install_data=InstallBeside),
    options=dict(build=dict(build_base=OUTSIDE), egg_info=dict(egg_base=OUTSIDE)),
    install_requires=CORE,
    extras_require={
        'det': DET,
        'seg': SEG,
        'demo': DEMO,
        'events': EVENTS,
        'deploy': DEPLOY,
        'deploy-openvino': DEPLOY_OPENVINO,
        'deploy-nir': DEPLOY_NIR,
        'dev': DET + SEG + DEMO + DEPLOY_OPENVINO + DEPLOY_NIR + DEV,
        'all': DET + SEG + DEMO,
    },
    keywords=['spiking neural network', 'vision transformer', 'quantization', 'OpenMMLab'],
    classifiers=[
        'Development Status :: 3 - Alpha',
        'Intended Audience :: Science/Research',
        'Programming Language :: Python :: 3',
        'Programming Language :: Python :: 3.10',
        'Programming Language :: Python :: 3.11',
        'Programming Language :: Python :: 3.12',
        'Programming Language :: Python :: 3.13',
        'Topic :: Scientific/Engineering :: Artificial Intelligence',
    ],
)
