"""A data set and trainers, written as a user of Dassl writes them: only the original's names are used."""

import os.path as osp
import re

import torch
import torch.nn as nn
from torch.nn import functional as F

from dassl.config import get_cfg_default
from dassl.data.datasets import DATASET_REGISTRY, DatasetBase, Datum
from dassl.engine import TRAINER_REGISTRY, TrainerX, TrainerXU, build_trainer
from dassl.metrics import compute_accuracy
from dassl.optim import build_lr_scheduler, build_optimizer
from dassl.utils import listdir_nohidden, set_random_seed


@DATASET_REGISTRY.register()
class Stripes(DatasetBase):
    """Folders train, val and test of files <label>_<class name>_<number>.png."""

    dataset_dir = "stripes"

    def __init__(self, cfg):
        root = osp.abspath(osp.expanduser(cfg.DATASET.ROOT))
        self.dataset_dir = osp.join(root, self.dataset_dir)
        train, val, test = (self.read(split) for split in ("train", "val", "test"))
        super().__init__(train_x=train, train_u=train, val=val, test=test)

    def read(self, split):
        items = []
        folder = osp.join(self.dataset_dir, split)
        for name in listdir_nohidden(folder, sort=True):
            label, classname, _ = name.split("_")
            items.append(Datum(impath=osp.join(folder, name), label=int(label), classname=classname))
        return items


class TinyNet(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.register_buffer("pixel_scale", torch.ones(1))
        self.stem = nn.Conv2d(3, 6, 3, stride=2)
        self.stem.requires_grad_(False)
        self.bn = nn.BatchNorm2d(6)
        self.dropout = nn.Dropout(0.2)
        self.fc = nn.Linear(6, num_classes)

    def forward(self, x):
        x = F.relu(self.bn(self.stem(x * self.pixel_scale)))
        return self.fc(self.dropout(x.mean(dim=(2, 3))))


@TRAINER_REGISTRY.register()
class Tiny(TrainerX):
    def check_cfg(self, cfg):
        assert cfg.OPTIM.MAX_EPOCH > 0

    def build_model(self):
        cfg = self.cfg
        self.model = TinyNet(len(self.dm.dataset.classnames))
        self.model.to(self.device)
        self.optim = build_optimizer(self.model, cfg.OPTIM)
        self.sched = build_lr_scheduler(self.optim, cfg.OPTIM)
        self.register_model("tiny", self.model, self.optim, self.sched)

    def forward_backward(self, batch):
        image, label = self.parse_batch_train(batch)
        output = self.model(image)
        loss = F.cross_entropy(output, label)
        self.model_backward_and_update(loss)
        loss_summary = {"loss": loss.item(), "acc": compute_accuracy(output, label)[0].item()}
        if (self.batch_idx + 1) == self.num_batches:
            self.update_lr()
        return loss_summary

    def parse_batch_train(self, batch):
        return batch["img"].to(self.device), batch["label"].to(self.device)


@TRAINER_REGISTRY.register()
class TinyTeacher(Tiny):
    """Also registers a teacher that follows the student, frozen and changed through .data."""

    def build_model(self):
        super().build_model()
        self.teacher = TinyNet(self.num_classes)
        self.teacher.load_state_dict(self.model.state_dict())
        self.teacher.requires_grad_(False)
        self.register_model("teacher", self.teacher)

    def forward_backward(self, batch):
        summary = super().forward_backward(batch)
        for mine, theirs in zip(self.teacher.parameters(), self.model.parameters()):
            mine.data.mul_(0.9).add_(theirs.data, alpha=0.1)
        return summary

    def model_inference(self, input):
        return self.teacher(input)


@TRAINER_REGISTRY.register()
class TinyXU(TrainerXU):
    build_model = Tiny.build_model
    check_cfg = Tiny.check_cfg

    def forward_backward(self, batch_x, batch_u):
        image, label, image_u = self.parse_batch_train(batch_x, batch_u)
        consistency = (self.model(image_u) - self.model(image_u)).square().mean()
        loss = F.cross_entropy(self.model(image), label) + consistency
        self.model_backward_and_update(loss)
        return {"loss": loss.item(), "loss_u": consistency.item()}


def tiny_cfg(root, output_dir, *options):
    cfg = get_cfg_default()
    cfg.merge_from_list(
        ["DATASET.NAME", "Stripes", "DATASET.ROOT", str(root), "OUTPUT_DIR", str(output_dir)]
        + ["TRAINER.NAME", "Tiny", "USE_CUDA", False, "SEED", 3, "VERBOSE", False]
        + ["INPUT.SIZE", (16, 16), "INPUT.TRANSFORMS", ("random_flip", "random_crop", "normalize")]
        + ["DATALOADER.NUM_WORKERS", 0, "DATALOADER.TRAIN_X.BATCH_SIZE", 4]
        + ["OPTIM.NAME", "sgd", "OPTIM.LR", 0.05, "OPTIM.MAX_EPOCH", 3, "OPTIM.LR_SCHEDULER", "cosine"]
        + ["OPTIM.WARMUP_EPOCH", 1, "OPTIM.WARMUP_TYPE", "constant", "TRAIN.PRINT_FREQ", 2]
    )
    cfg.merge_from_list(list(options))
    return cfg


def train(cfg):
    set_random_seed(cfg.SEED)
    trainer = build_trainer(cfg)
    trainer.train()
    return trainer


#: What is printed of a step.
NUMBER = r"\d+\.\d+"
LINE = re.compile(
    rf"epoch \[(\d)/3\] batch \[(\d)/4\] time {NUMBER} \({NUMBER}\) data {NUMBER} \({NUMBER}\) "
    rf"loss {NUMBER} \({NUMBER}\) acc {NUMBER} \({NUMBER}\) lr \d\.\d{{4}}e-\d\d eta \d:\d\d:\d\d"
)
