"""Short runs of configs that tests have shrunk."""

from qsdt_mm import cli


def short_run(cfg, work_dir, parts=('',)):
    """Train to the end in this process; every one of these parts of the model has to move.

    Returns the runner.
    """
    cfg.work_dir = str(work_dir)
    cfg.default_hooks.firing.interval = 1
    cfg.absent_hooks = ['energy', 'report']  # what is drawn takes time, and other tests look at it
    for name in cfg.absent_hooks:
        cfg.default_hooks.pop(name, None)
    cfg.experiment_name = work_dir.parent.name  # runs of one second share it otherwise
    cli.import_library(cfg)
    cli.default_loaders(cfg)
    runner = cli.build_runner(cfg)
    before = {name: p.detach().clone() for name, p in runner.model.named_parameters()}
    runner.train()
    after = dict(runner.model.named_parameters())
    for part in parts:
        assert any(not after[n].equal(p) for n, p in before.items() if n.startswith(part)), f'{part} was not trained'
    return runner
