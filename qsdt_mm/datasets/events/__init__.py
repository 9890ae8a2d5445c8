"""Data of event cameras."""

from qsdt_mm.compat.renamed import refuse_old_names

__getattr__ = refuse_old_names(
    __name__, 'CIFAR10DVS', 'DVS128Gesture', 'EventDataset', 'EventFiles', 'FolderEvents', 'HARDVS'
)
