"""What plugins for Dassl import and rely on, as published trainers and data sets write it."""

import importlib

import pytest
import torch
from yacs.config import CfgNode

from dassl.config import get_cfg_default
from dassl.optim import build_lr_scheduler

# module: names that published plugins (CoOp, CoCoOp, MaPLe, KgCoOp, DAPL and others) import from it
IMPORTED = {
    "dassl.config": "get_cfg_default",
    "dassl.data": "DataManager DatasetWrapper",
    "dassl.data.data_manager": "DataManager DatasetWrapper build_data_loader build_transform",
    "dassl.data.datasets": "DATASET_REGISTRY Datum DatasetBase build_dataset",
    "dassl.data.datasets.base_dataset": "Datum DatasetBase",
    "dassl.data.datasets.build": "DATASET_REGISTRY build_dataset",
    "dassl.data.samplers": "build_sampler RandomDomainSampler RandomClassSampler SeqDomainSampler",
    "dassl.data.transforms": "INTERPOLATION_MODES build_transform",
    "dassl.data.transforms.autoaugment": "SVHNPolicy CIFAR10Policy ImageNetPolicy",
    "dassl.data.transforms.randaugment": "RandAugment RandAugment2 RandAugmentFixMatch",
    "dassl.data.transforms.transforms": "INTERPOLATION_MODES Cutout GaussianNoise InstanceNormalization "
    "Random2DTranslation build_transform",
    "dassl.engine": "TRAINER_REGISTRY TrainerBase SimpleTrainer TrainerX TrainerXU SimpleNet build_trainer",
    "dassl.engine.build": "TRAINER_REGISTRY",
    "dassl.engine.trainer": "AverageMeter MetricMeter SimpleNet SimpleTrainer SummaryWriter TrainerBase "
    "TrainerX TrainerXU",
    "dassl.evaluation": "EVALUATOR_REGISTRY EvaluatorBase Classification build_evaluator",
    "dassl.metrics": "compute_accuracy",
    "dassl.modeling": "BACKBONE_REGISTRY HEAD_REGISTRY Backbone build_backbone build_head",
    "dassl.modeling.backbone.backbone": "Backbone",
    "dassl.modeling.backbone.build": "BACKBONE_REGISTRY",
    "dassl.modeling.ops.utils": "create_onehot sharpen_prob",
    "dassl.optim": "build_lr_scheduler build_optimizer",
    "dassl.optim.lr_scheduler": "AVAI_SCHEDS ConstantWarmupScheduler LinearWarmupScheduler build_lr_scheduler",
    "dassl.optim.optimizer": "AVAI_OPTIMS build_optimizer",
    "dassl.optim.radam": "RAdam",
    "dassl.utils": "AverageMeter Logger MetricMeter Registry check_availability check_isfile collect_env_info "
    "count_num_param download_url get_most_similar_str_to_a_from_b listdir_nohidden "
    "load_checkpoint load_pretrained_weights mkdir_if_missing read_image read_json "
    "resume_from_checkpoint save_checkpoint set_random_seed setup_logger tolist_if_not write_json",
    "dassl.utils.logger": "Logger setup_logger",
    "dassl.utils.meters": "AverageMeter MetricMeter",
    "dassl.utils.tools": "mkdir_if_missing read_image set_random_seed",
    "dassl.utils.torchtools": "count_num_param load_pretrained_weights resume_from_checkpoint",
}


@pytest.mark.parametrize("module", IMPORTED)
def test_what_plugins_import_is_there(module):
    there = importlib.import_module(module)
    assert [name for name in IMPORTED[module].split() if not hasattr(there, name)] == []


def keys(cfg: CfgNode) -> list[str]:
    return sorted(cfg.keys())


def test_the_config_has_the_keys_of_dassl_0_6_and_no_others():
    cfg = get_cfg_default()
    sections = ["DATALOADER", "DATASET", "INPUT", "MODEL", "OPTIM", "TEST", "TRAIN", "TRAINER"]
    assert keys(cfg) == sorted([*sections, "OUTPUT_DIR", "RESUME", "SEED", "USE_CUDA", "VERBOSE", "VERSION"])
    assert keys(cfg.DATALOADER.TRAIN_X) == ["BATCH_SIZE", "N_DOMAIN", "N_INS", "SAMPLER"]
    assert keys(cfg.DATALOADER.TEST) == ["BATCH_SIZE", "SAMPLER"]
    assert keys(cfg.TRAIN) == ["CHECKPOINT_FREQ", "COUNT_ITER", "PRINT_FREQ"]
    assert cfg.OPTIM == {
        "NAME": "adam",
        "LR": 0.0003,
        "WEIGHT_DECAY": 0.0005,
        "MOMENTUM": 0.9,
        "SGD_DAMPNING": 0,
        "SGD_NESTEROV": False,
        "RMSPROP_ALPHA": 0.99,
        "ADAM_BETA1": 0.9,
        "ADAM_BETA2": 0.999,
        "STAGED_LR": False,
        "NEW_LAYERS": (),
        "BASE_LR_MULT": 0.1,
        "LR_SCHEDULER": "single_step",
        "STEPSIZE": (-1,),
        "GAMMA": 0.1,
        "MAX_EPOCH": 10,
        "WARMUP_EPOCH": -1,
        "WARMUP_TYPE": "linear",
        "WARMUP_CONS_LR": 1e-5,
        "WARMUP_MIN_LR": 1e-5,
        "WARMUP_RECOUNT": True,
    }
    assert cfg.TEST == {
        "EVALUATOR": "Classification",
        "PER_CLASS_RESULT": False,
        "COMPUTE_CMAT": False,
        "NO_TEST": False,
        "SPLIT": "test",
        "FINAL_MODEL": "last_step",
    }


# Recorded on Dassl 0.6.3: LR 0.1, MAX_EPOCH 8, STEPSIZE (2, 5), GAMMA 0.1.
RATES = {
    ("single_step", -1, "linear", True): [0.1, 0.1, 0.1, 0.1, 0.1, 0.01, 0.01, 0.01],
    ("multi_step", 1, "constant", True): [1e-05, 0.1, 0.1, 0.01, 0.01, 0.01, 0.001, 0.001],
    ("cosine", 1, "constant", True): [
        1e-05,
        0.1,
        0.096193977,
        0.085355339,
        0.069134172,
        0.05,
        0.030865828,
        0.014644661,
    ],
    ("cosine", 3, "linear", True): [
        1e-05,
        0.033333333,
        0.066666667,
        0.1,
        0.096193977,
        0.085355339,
        0.069134172,
        0.05,
    ],
    ("cosine", 3, "linear", False): [
        1e-05,
        0.033333333,
        0.066666667,
        0.1,
        0.072323135,
        0.044646269,
        0.021182956,
        0.0055052708,
    ],
}


@pytest.mark.parametrize("settings", RATES, ids=lambda s: "-".join(map(str, s)))
def test_learning_rates_are_those_of_dassl(settings):
    options = get_cfg_default().OPTIM
    options.LR, options.MAX_EPOCH, options.STEPSIZE = 0.1, 8, (2, 5)
    options.LR_SCHEDULER, options.WARMUP_EPOCH, options.WARMUP_TYPE, options.WARMUP_RECOUNT = settings
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=options.LR)
    schedule = build_lr_scheduler(optimizer, options)
    seen = []
    for _ in range(8):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert seen == pytest.approx(RATES[settings], rel=1e-6)
