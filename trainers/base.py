"""What every prompt trainer shares: the frozen backbone, the step, precision, checkpoints, evaluation."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from yacs.config import CfgNode

import clip
from dassl.engine import TrainerX
from dassl.metrics import compute_accuracy
from dassl.utils import count_num_param
from foundation.keys import Key, check, declare, one_of
from foundation.keys.of_all_runs import ALL_RUNS, of
from foundation.keys.of_dassl import DASSL
from foundation.probabilities import Probabilities

from . import captured, data_parallel, optimisers
from .checkpoint import find_checkpoint, load_learned, read_checkpoint
from .class_names import Classes, check_prompts
from .class_sample import draw_classes, sample_size
from .evaluation import Evaluation, class_chunk
from .feature_cache import FeatureCache, cache_folder
from .loss_scaling import without_waiting
from .out_of_memory import advised
from .preprocessing import check_preprocessing
from .prompt_model import PromptModel
from .release import Release
from .top_classes import TopClasses

AUTOCAST = {"amp": torch.float16, "bf16": torch.bfloat16}
#: The key of every method that trains.
PREC = Key(
    "fp16", "precision; fp16: towers in half precision, amp and bf16: autocast", one_of(*clip.PRECISIONS)
)


def section(cfg: CfgNode, name: str) -> CfgNode:
    """``cfg.TRAINER[name]``, made if it is not there: for methods that declare their keys by assignments."""
    return cfg.TRAINER.setdefault(name, CfgNode())


class PromptTrainer(TrainerX):
    """Trains the parameters of a PromptModel around a frozen CLIP; a method says which, in its own file.

    Class attributes of a method:
        model_class: its PromptModel.
        model_name: the checkpoint's folder, as in the method's release.
        section: its part of the config, ``cfg.TRAINER[section]``; releases of several methods share one.
        keys: the keys there, by their names in the section; a name with dots is a whole one.
        released_as: released trainers under other names that this one reproduces.
        learns: whether training images decide how it scores.
        disclosures: what a reader of its numbers must know, by their names in foundation/disclosures.py.

    ``PREC`` of a method: fp32; fp16 (towers in half precision, prompts, loss and transport in fp32); amp and bf16 (the
    towers' products in fp16, with loss scaling, or in bf16, and what passes between blocks in fp32; autocast for the
    layers that a method learns).
    """

    #: Several processes (torchrun) can train it together; the engine asks.
    in_many_processes = True
    model_class: type[PromptModel]
    model_name = "prompt_learner"
    section: str
    keys: dict[str, Key] = {}
    released_as: dict[str, Release] = {}
    learns = True
    disclosures: tuple[str, ...] = ()
    #: Calls what a GPU may capture (TRAIN.CUDA_GRAPH): a step's losses, and the scores of an evaluation's batch.
    captured = captured_scores = captured.Captured()
    #: What a test keeps of its images' probabilities. The engine makes it; the original's, runs/original_dassl.py.
    probabilities: Probabilities | None = None
    model: Any
    _labels: Tensor | None = None

    @classmethod
    def declared_keys(cls) -> dict[str, Key]:
        """``keys`` by their whole names."""
        return {cls.whole_name(name): key for name, key in cls.keys.items()}

    @classmethod
    def whole_name(cls, name: str) -> str:
        """Of a key of the method's section; one with dots is whole."""
        return name if "." in name else f"TRAINER.{cls.section}.{name}"

    @classmethod
    def extend_cfg(cls, cfg: CfgNode) -> None:
        """Declare the method's keys with their defaults, as Dassl's plugins do."""
        declare(cfg, cls.declared_keys())

    def check_cfg(self, cfg: CfgNode) -> None:
        """Raise ValueError where a key has a value that it may not have; who made ``cfg`` may not have looked."""
        check(cfg, {**DASSL, **ALL_RUNS, **self.declared_keys()})

    @property
    def scores_batches(self) -> bool:
        """Whether the numbers of images in a batch and of classes at once decide results, and so what run this is."""
        return self.model.scores_batches

    def disclosed(self) -> list[str]:
        """The names of ``disclosures``, and of what else the run's settings make it say."""
        return list(self.disclosures)

    def precision(self) -> str:
        return self.cfg.TRAINER[self.section].PREC

    def build_model(self) -> None:
        """The frozen towers, the method's model around them, its optimiser; each step prints what it has made."""
        recorder = captured.recorder(self)
        towers = self._load_towers()
        class_chunk(self.cfg)
        self.class_sample = sample_size(self.cfg, self.num_classes)
        self.max_epoch = optimisers.epochs(self.cfg, self.train_loader_x)
        if self.max_epoch != self.cfg.OPTIM.MAX_EPOCH:
            print(f"OPTIM.STEPS_PER_SHOT: {self.max_epoch} epochs, whatever OPTIM.MAX_EPOCH says")
        self._build_model_around(towers)
        self._build_optimiser()
        self.register_model(self.model_name, self.model, self.optim, self.sched)
        self._use_feature_cache()
        scale = (lambda: 1.0) if self.scaler is None else self.scaler.get_scale
        self.captured = captured.Captured(recorder, self.model, "training steps", scale)
        self.captured_scores = captured.Captured(recorder, self.model, "evaluation batches")
        self._forget()

    def _load_towers(self) -> clip.CLIP:
        cfg, backbone = self.cfg, self.cfg.MODEL.BACKBONE.NAME
        print(f"Loading CLIP (backbone: {backbone})")
        towers = clip.load(backbone, self.precision()).to(self.device)
        print(f"  activation {towers.activation}, texts of up to {towers.text.context_length} tokens")
        check_preprocessing(cfg, towers)
        if tuple(cfg.INPUT.SIZE) != towers.image.image_size:
            raise ValueError(
                f"INPUT.SIZE is {tuple(cfg.INPUT.SIZE)}, {backbone} takes {towers.image.image_size}"
            )
        self.backbone_hash = towers.hash
        if of(cfg, "TRAIN.COMPILE"):
            towers.image.compile(dynamic=False)
            if not of(cfg, "TRAINER.CLASS_SAMPLE"):  # every step would be of other shapes
                towers.text.compile(dynamic=False)
        return towers

    def _build_prompts(self, towers: clip.CLIP, classes: Classes) -> PromptModel:
        try:
            return self.model_class(self.cfg, towers, classes.names, classes.template)
        except ValueError as error:
            # parts that methods share know their keys, not whose section these stand in
            where = f"TRAINER.{self.section}" if hasattr(self, "section") else type(self).__name__
            raise ValueError(f"{where}: {error}") from error

    def _build_model_around(self, towers: clip.CLIP) -> None:
        cfg, method, classes = self.cfg, type(self).__name__, self.classes()
        check_prompts(classes.names, cfg.DATASET.NAME, classes.must_differ)
        print("Building the prompts")
        self.model = self._build_prompts(towers, classes).to(self.device)
        self.model.about["trainer"] = method
        self.model.written_texts.tell(method, cfg.DATASET.NAME, classes.of_data_set or classes.names)
        if cfg.MODEL.INIT_WEIGHTS:
            self._load(cfg.MODEL.INIT_WEIGHTS)
        data_parallel.copy_from_first(self.model.parameters())
        print(f"Learnable parameters: {count_num_param(self.model):,}")
        for name, parameter in self.model.named_parameters():
            print(f"  {name} {tuple(parameter.shape)}")
        if self.scores_batches:
            print(
                "Images of a batch are scored together: results depend on DATALOADER.TEST.BATCH_SIZE "
                f"({cfg.DATALOADER.TEST.BATCH_SIZE}), TEST.CLASS_CHUNK ({class_chunk(cfg)}), in training also on the "
                f"number of processes ({data_parallel.count()})"
            )

    def _build_optimiser(self) -> None:
        """``optim`` and ``sched``, None for a method that learns nothing; ``scaler``, None without loss scaling."""
        self.scaler = torch.amp.GradScaler(self.device.type) if self.precision() == "amp" else None
        self.optim: Any = None
        self.sched: Any = None
        if count_num_param(self.model):
            self.optim = optimisers.optimizer(self.cfg, self.model, self.model.groups())
            if self.scaler is not None and self.device.type == "cuda":
                self.optim = without_waiting(self.optim)
            batches = 1 if self.train_loader_x is None else len(self.train_loader_x)
            self.sched = optimisers.schedule(self.cfg, self.optim, self.stage_ends(), batches)

    @property
    def written_texts(self) -> dict[str, list[str]]:
        """Texts that the user has written, by class, where the method uses them (DATASET.CLASS_TEXTS)."""
        written = self.model.written_texts
        return written.texts if written.used else {}

    def _use_feature_cache(self) -> None:
        """Keep image features on disk, if that is asked for and the method leaves images alone."""
        folder = cache_folder(self.cfg)
        if folder and not self.model.leaves_images_alone():
            print(f"TEST.FEATURE_CACHE is not used: {type(self).__name__} learns how images are encoded")
        elif folder:
            self.model.feature_cache = FeatureCache(folder, self.backbone_hash, self.precision())
            self.model.cache_training = of(self.cfg, "TRAIN.FEATURE_CACHE")

    def _forget(self) -> None:
        """Drop what an evaluation has computed of the model."""
        self._evaluation: Evaluation | None = None
        self.captured_scores.forget()
        self.model.kept_image_changes = None

    def classes(self) -> Classes:
        """What the model is built for: those of the data set."""
        return Classes.of(self.dm.dataset)

    def autocast(self) -> AbstractContextManager:
        """The context that a step and an evaluation run in."""
        dtype = AUTOCAST.get(self.precision())
        return nullcontext() if dtype is None else torch.autocast(self.device.type, dtype=dtype)

    def forward_backward(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        images, labels = self.parse_batch_train(batch)
        with self.autocast():
            loss, logits = self.captured(self.model.loss, images, labels)
        part, summary = self.of_batch(logits, labels, loss=loss)
        self.model_backward_and_update(loss * part)
        self.end_step()
        return summary

    def end_step(self) -> None:
        """Move the learning rate, if it is time."""
        if optimisers.is_per_step(self.cfg) or self.batch_idx + 1 == self.num_batches:
            self.update_lr()

    def stage_ends(self) -> list[int]:
        """The epoch at which each stage ends, in methods that train in several; OPTIM.LR_STEPS begins anew in each."""
        return [self.max_epoch]

    def of_batch(
        self, logits: Tensor, labels: Tensor, **losses: Tensor
    ) -> tuple[Tensor | float, dict[str, Tensor]]:
        """What this process's losses count in the whole batch's, and those with the accuracy in percent.

        Raises:
            FloatingPointError: the first loss is not finite, where neither the engine nor a loss scaler sees to that.
            ValueError: the logits are not of the classes that were drawn (CLASS_SAMPLE).
        """
        classes = self.model.class_texts.classes
        if classes is not None and logits.shape[1] != len(classes):
            raise ValueError(
                f"TRAINER.CLASS_SAMPLE is {len(classes)}, but {type(self).__name__} scores {logits.shape[1]} classes: "
                "it must select its texts with of_classes"
            )
        part = data_parallel.share_of_batch(len(labels), self.device)
        values = [*(loss.detach() for loss in losses.values()), compute_accuracy(logits, labels)[0][0]]
        total = data_parallel.total(torch.stack(values) * part)
        later = getattr(self, "checks_losses_later", False)  # the original engine does not look at them
        if self.scaler is None and not later:
            self.detect_anomaly(total[0])
        return part, dict(zip((*losses, "acc"), total))

    def model_backward(self, loss: Tensor) -> None:
        """The gradient of the batch's loss, of which ``loss`` is this process's part."""
        (loss if self.scaler is None else self.scaler.scale(loss)).backward()
        data_parallel.add_up_gradients(self.model.parameters())

    def model_update(self, names: Any = None) -> None:
        if self.scaler is None:
            super().model_update(names)
        else:
            self.scaler.step(self.optim)
            self.scaler.update()

    def parse_batch_train(self, batch: dict[str, Any]) -> tuple[Tensor, Tensor]:
        """Images, and their labels: with ``TRAINER.CLASS_SAMPLE`` among the classes that are drawn for this step."""
        images, labels = batch["img"].to(self.device, non_blocking=True), batch["label"]
        if not self.class_sample:
            return images, labels.to(self.device, non_blocking=True)
        # all of it on the CPU, where the labels are: nothing waits for the device
        step = self.epoch * self.num_batches + self.batch_idx
        entropy = torch.initial_seed(), step
        classes = draw_classes(data_parallel.gather_all(labels), self.num_classes, self.class_sample, entropy)
        self.model.class_texts.classes = classes
        return images, clip.send(torch.searchsorted(classes, labels), self.device)

    def before_train(self) -> None:
        optimisers.check_shots(self.cfg)
        super().before_train()

    def run_epoch(self) -> None:
        with advised(self, training=True):
            super().run_epoch()

    def test(self, split: str | None = None) -> float:
        with advised(self, training=False):
            return super().test(split)

    def set_model_mode(self, mode: str = "train", names: Any = None) -> None:
        self._forget()
        self.model.class_texts.classes = None
        super().set_model_mode(mode, names)

    @property
    def logit_scale(self) -> float:
        """What the logits are multiples of: divided by it they are cosines, or a transport's similarities."""
        return self.model.inverse_temperature().item()

    def parse_batch_test(self, batch: dict[str, Any]) -> tuple[Tensor, Tensor]:
        """Images and labels; ``model_inference``, which gets the images alone, keeps the labels' own logits, too."""
        images, self._labels = super().parse_batch_test(batch)
        return images, self._labels

    @torch.no_grad()
    def model_inference(self, input: Tensor) -> Tensor | TopClasses:
        """Logits (B, C); with ``TEST.CLASS_CHUNK`` the best classes."""
        if self._evaluation is None:
            k, powers = of(self.cfg, "TEST.TOP_K"), getattr(self.probabilities, "powers", ())
            chunk, calls = class_chunk(self.cfg), self.captured_scores
            self._evaluation = Evaluation(self.model, self.num_classes, chunk, k, calls, powers)
        labels, self._labels = self._labels, None
        with self.autocast():
            return self._evaluation(input, labels)

    def load_model(self, directory: str, epoch: int | None = None) -> None:
        """Load learnable parameters from ``<directory>/<model name>``, ours or the method's release's.

        Raises:
            FileNotFoundError: no such checkpoint; what exists is listed.
            ValueError: it is another method's, backbone's or number of classes'.
        """
        if not directory:
            print("Note that load_model() is skipped as no pretrained model is given")
            return
        try:
            path = find_checkpoint(directory, self.model_name, epoch)
        except FileNotFoundError as error:
            raise FileNotFoundError(f"{type(self).__name__}: {error}") from None
        self._load(path)

    def _load(self, path: Any) -> None:
        checkpoint = read_checkpoint(path)
        whole = checkpoint if isinstance(checkpoint, dict) else {}
        load_learned(self.model, whole.get("state_dict", checkpoint), str(path))
        self._forget()
        print(f"Loaded {self.model_name} from {path} (epoch {whole.get('epoch', 'unknown')})")
