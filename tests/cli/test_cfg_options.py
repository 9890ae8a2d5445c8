"""Every key of --cfg-options means something, or is refused by name."""

import pytest
import toy_runs as toy

from qsdt_mm.cli import load_config, parse_options
from qsdt_mm.cli.cfg_options import accepted_arguments, check_cfg_options, check_loop, resolve_type
from qsdt_mm.errors import InputError


@pytest.fixture(scope='module')
def cfg():
    """The toy configuration with a pipeline, a list of hooks and a variable of its own."""
    from mmengine.config import Config

    cfg = Config.fromfile(toy.CONFIG)
    cfg.merge_from_dict(dict(my_variable=1, tail=dict(a=dict(b=2)), empty=None))
    cfg.train_dataloader.dataset.metainfo = dict(classes=('a',))
    return cfg


@pytest.mark.parametrize(
    'words',
    [
        'model.width=8',  # in the class's signature
        'train_cfg.max_epochs=1',
        'my_variable=2',
        'tail.a.b=3',
        'custom_hooks.0.momentum=0.5',
        'custom_hooks.0.begin_iter=5',  # EMAHook's own
        'custom_hooks.0.type=PoisonHook custom_hooks.0.at=3',  # judged by the new type
        'param_scheduler.0.eta_min=1e-5',
        'optim_wrapper.optimizer.betas="(0.9,0.95)"',
        'optim_wrapper.clip_grad.max_norm=1',
        'optim_wrapper.paramwise_cfg.norm_decay_mult=0',
        'optim_wrapper.paramwise_cfg.custom_keys.anything.lr_mult=0.1',
        'optim_wrapper.accumulative_counts=2',
        'optim_wrapper.type=AmpOptimWrapper optim_wrapper.loss_scale=dynamic',
        'train_dataloader.drop_last=True',
        'train_dataloader.sampler.round_up=False',
        'train_dataloader.worker_init_fn.type=seed_worker',
        'train_dataloader.dataset.metainfo.palette=x',
        'train_dataloader.num_batch_per_epoch=3',
        'model.init_cfg.type=Pretrained model.init_cfg.checkpoint=x.pth',  # a whole new dict
        'default_hooks.checkpoint.save_best=auto',
        'default_hooks.checkpoint.max_keep_ckpts=2',
        'default_hooks.logger.ignore_last=False',
        'default_hooks.early.type=EarlyStoppingHook default_hooks.early.monitor=acc',
        'randomness.seed=1 randomness.deterministic=True',
        'load_from=x.pth resume=True work_dir=y log_level=ERROR',
        'auto_scale_lr.enable=True',
        'env_cfg.cudnn_benchmark=True env_cfg.dist_cfg.timeout=10',
        'compile.backend=eager',
        'val_cfg.fp16=True',
        'train_cfg.dynamic_intervals="[(1,2)]"',
        'model_wrapper_cfg.static_graph=True',
    ],
)
def test_keys_that_mean_something(cfg, words):
    check_cfg_options(cfg, parse_options(words.split()))


@pytest.mark.parametrize(
    ('words', 'hints'),
    [
        ('model.widht=8', ['model.widht', 'did you mean model.width']),
        ('modle.width=8', ['modle.width', 'did you mean model']),
        ('modle.width=8 model.width=4', ['modle.width']),
        ('model.width=4 model.dorp=1', ['model.dorp', 'model.drop']),
        ('optim_wraper.optimizer.lr=1', ['did you mean optim_wrapper']),
        ('optim_wrapper.optimiser.lr=1', ['did you mean optim_wrapper.optimizer']),
        ('optim_wrapper.optimizer.weigth_decay=1', ['(AdamW)', 'optim_wrapper.optimizer.weight_decay']),
        ('optim_wrapper.clip_grad.max_nrom=1', ['max_norm']),
        ('optim_wrapper.paramwise_cfg.norm_decay=0', ['norm_decay_mult']),
        ('train_cfg.max_epoch=3', ['did you mean train_cfg.max_epochs']),
        ('train_dataloader.batchsize=3', ['did you mean train_dataloader.batch_size']),
        ('train_dataloader.dataset.cuont=3', ['(ToyData)', 'train_dataloader.dataset.count']),
        ('default_hooks.checkpoint.intervall=3', ['did you mean default_hooks.checkpoint.interval']),
        ('default_hooks.chekpoint.interval=3', ['did you mean default_hooks.checkpoint']),
        ('default_hooks.guard.strict=True', ['(NonFiniteGuardHook)']),
        ('custom_hooks.1.momentum=0.5', ['custom_hooks.1.momentum']),
        ('custom_hooks.first.momentum=0.5', ['custom_hooks.first.momentum']),
        ('param_scheduler.0.T_mx=3', ['param_scheduler.0.T_max']),
        ('my_variable.a=1', ['my_variable.a']),
        ('tail.a.c=1', ['tail.a.c']),
        ('tail.new=1', ['tail.new']),
        ('randomness.sed=1', ['randomness.seed']),
        ('model.init_cfg.type=Pretrained model.init_cfg.chekpoint=x', ['model.init_cfg.checkpoint']),
        ('env_cfg.cudnn_bench=True', ['env_cfg.cudnn_benchmark']),
        ('auto_scale_lr.enabled=True', ['auto_scale_lr.enable']),
        ('model.type=NoSuchModel model.depth=3', ['model.depth']),  # unknown type: existing keys only
    ],
)
def test_keys_that_mean_nothing(cfg, words, hints):
    before = cfg.pretty_text
    with pytest.raises(InputError) as caught:
        check_cfg_options(cfg, parse_options(words.split()))
    assert '\n' not in str(caught.value) and '--cfg-options' in str(caught.value)
    for hint in hints:
        assert hint in str(caught.value), str(caught.value)
    assert cfg.pretty_text == before


def test_signatures_through_bases():

    class Base:
        def __init__(self, a, *, b=1):
            pass

    class Middle(Base):
        def __init__(self, c=1, **kwargs):
            super().__init__(**kwargs)

    class Closed(Middle):
        def __init__(self, d=1):
            super().__init__()

    class Silent(Middle):
        pass

    assert accepted_arguments(Middle) == ({'a', 'b', 'c'}, False)
    assert accepted_arguments(Silent) == ({'a', 'b', 'c'}, False)
    assert accepted_arguments(Closed) == ({'d'}, False)
    assert accepted_arguments(lambda x, **rest: None) == ({'x'}, True)
    (on_demand,) = resolve_type('EventsToFrames')
    assert accepted_arguments(on_demand) == ({'num_frames', 'split_by', 'size'}, False)


def test_types_are_found_by_name_scope_or_class():
    from mmengine.hooks import EMAHook

    assert resolve_type('EMAHook') == [EMAHook] == resolve_type(EMAHook)
    assert resolve_type('mmengine.EMAHook') == [EMAHook]
    assert resolve_type('NoSuchThing') == [] == resolve_type(None)


@pytest.mark.parametrize('word', ['a', '=1', 'a b=1', 'a=[1,(2]'])
def test_words_that_are_no_options(word):
    with pytest.raises(InputError, match='--cfg-options'):
        parse_options([word])


def test_values_are_parsed_as_in_mmengine():
    assert parse_options(['a.b=1', 'c=[1,2.5]', 'd=None', 'e=x=y', 'f=-1', 'g=True']) == {
        'a.b': 1,
        'c': [1, 2.5],
        'd': None,
        'e': 'x=y',
        'f': -1,
        'g': True,
    }


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('train_dataloader = [1]', 'train_dataloader=[1] is not allowed: expected a dict'),
        ("val_dataloader = dict(dataset=['word'])", "val_dataloader.dataset=['word'] is not allowed: expected a dict"),
    ],
)
def test_data_loaders_are_dicts(tmp_path, text, message):
    path = tmp_path / 'config.py'
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        load_config(str(path))
    assert str(caught.value) == message


def test_broken_configs_are_one_line(tmp_path):
    path = tmp_path / 'broken.py'
    for text in (
        'model = dict(',
        "_base_ = 'absent.py'",
        'model = dict(a=undefined)',
        "custom_imports = dict(imports=['no_such_module'])",
    ):
        path.write_text(text)
        with pytest.raises(InputError, match='broken.py cannot be read') as caught:
            load_config(str(path))
        assert '\n' not in str(caught.value)


@pytest.mark.parametrize(
    ('name', 'value', 'allowed'),
    [
        ('val_interval', (1, 2), 'an integer but 0'),
        ('val_interval', 0, 'an integer but 0'),
        ('val_interval', True, 'an integer but 0'),
        ('val_begin', '1', 'an integer'),
        ('max_epochs', 2.5, 'an integer'),
        ('max_iters', None, 'an integer'),
    ],
)
def test_numbers_of_the_loop(name, value, allowed):
    from mmengine.config import Config

    cfg = Config.fromfile(toy.CONFIG)
    check_loop(cfg)
    cfg.train_cfg[name] = value
    with pytest.raises(InputError, match=rf'^train_cfg\.{name}=.* is not allowed: expected {allowed}$'):
        check_loop(cfg)
