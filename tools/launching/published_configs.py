"""Which config a method's authors used for which protocol and data set, by the names under configs/trainers/."""

from typing import NamedTuple

from runs import shipped


class Choice(NamedTuple):
    """A config, and for what its authors used it; an empty field stands for all."""

    config: str
    protocols: tuple[str, ...] = ()
    datasets: tuple[str, ...] = ()
    shots: range = range(0)

    def fits(self, protocol: str, dataset: str, shots: int) -> bool:
        asked = ((self.protocols, protocol), (self.datasets, dataset), (self.shots, shots))
        return all(not of or one in of for of, one in asked)


TRANSFER = ("xd", "dg")
IMAGENET = ("imagenet",)
ONE, FEW, MANY = range(1, 2), range(2, 8), range(8, 1_000_000)


def _by_shots(name: str, one: str, few: str, many: str) -> tuple[Choice, ...]:
    """CoOp's way to train the longer the more images there are: 1 shot, 2 and 4, 8 and 16, and numbers between."""
    endings = {ONE: one, FEW: few, MANY: many}
    return tuple(Choice(f"{name}{ending}", ("fewshot",), (), shots) for shots, ending in endings.items())


def _mmrl() -> tuple[Choice, ...]:
    return (
        Choice("vit_b16_cross_datasets", TRANSFER),
        Choice("vit_b16_base_to_new_imagenet", ("base2new",), IMAGENET),
        Choice("vit_b16_base_to_new", ("base2new",)),
        Choice("vit_b16_few_shot_imagenet", (), IMAGENET),
        Choice("vit_b16_few_shot"),
    )


def _of_taskres(name: str, datasets: tuple[str, ...]) -> tuple[Choice, ...]:
    """TaskRes has 200 epochs from 8 shots on."""
    return (Choice(f"{name}_ep200", (), datasets, MANY), Choice(f"{name}_ep100", (), datasets))


# Of a method's choices the first that fits counts. The data set is the one that is trained on. A method with a single
# config beside the bundled model's has no choices.
CHOICES: dict[str, tuple[Choice, ...]] = {
    "ATPromptCoOp": (Choice("vit_b16_c4_ep10_cross_datasets", TRANSFER), Choice("vit_b16_c2_ep100")),
    "ATPromptMaPLe": (
        Choice("vit_b16_c2_ep3_batch4_cross_datasets", TRANSFER),
        Choice("vit_b16_c2_ep5_batch4"),
    ),
    "CLAP": (Choice("rn50"),),
    "CLIPAdapter": (Choice("rn50"),),  # ours: the release has no settings
    "CoCoOp": (Choice("vit_b16_c4_ep10_batch1_ctxv1"),),
    "CoOp": (
        Choice("vit_b16_ep50", ("fewshot",), IMAGENET),
        *_by_shots("vit_b16", "_ep50", "_ep100", ""),
        # Of CoCoOp's comparison, which has 200 epochs by MaPLe's and PromptSRC's READMEs; on ImageNet CoOp has 50.
        Choice("vit_b16_ep50_ctxv1", (), IMAGENET),
        Choice("vit_b16_ctxv1"),
    ),
    "GalLoP": (
        Choice("vit_b16_batch128_ep50", (), IMAGENET),
        Choice("vit_b16_batch128", (), ("sun397",)),
        Choice("vit_b16_batch10", (), ("eurosat",)),
        Choice("vit_b16"),
    ),
    "IVLP": (Choice("vit_b16_c2_ep5_batch4_2+2ctx"),),
    "KgCoOp": (Choice("vit_b16_ep100"),),
    "MMTPA": (
        *(choice._replace(datasets=("sun397",)) for choice in _by_shots("sun397", "_ep30", "_ep50", "_ep80")),
        Choice("sun397", (), ("sun397",)),
        Choice("vit_b16", (), IMAGENET),
        *_by_shots("vit_b16", "_ep30", "_ep50", "_ep80"),
        Choice("vit_b16"),
    ),
    "MMRL": _mmrl(),
    "MMRLpp": _mmrl(),
    "MaPLe": (
        Choice("vit_b16_c2_ep5_batch4_2ctx_cross_datasets", TRANSFER),
        Choice("vit_b16_c2_ep5_batch4_2ctx"),
    ),
    "MuDPT": (Choice("vit_b16_transformer"),),
    "PLOT": (
        Choice("rn50_ep50", ("fewshot",), IMAGENET),
        *_by_shots("rn50", "_ep50", "_ep100", ""),
        Choice("rn50"),
    ),
    "ProGrad": (
        Choice("rn50_ep50", (), IMAGENET),
        Choice("rn50_lambda0.8", ("fewshot",), ("oxford_flowers", "dtd", "eurosat"), MANY),
        *_by_shots("rn50", "_ep50", "_ep100", ""),
        Choice("rn50_ep100"),
    ),
    "PromptSRC": (
        Choice("vit_b16_c2_ep20_batch4_4+4ctx_cross_datasets", TRANSFER),
        Choice(
            "vit_b16_c2_ep50_batch4_4+4ctx_few_shot_gpa45",
            ("fewshot",),
            ("stanford_cars", "oxford_flowers", "fgvc_aircraft", "dtd", "eurosat"),
        ),
        Choice("vit_b16_c2_ep50_batch4_4+4ctx_few_shot", ("fewshot",)),
        Choice("vit_b16_c2_ep20_batch4_4+4ctx"),
    ),
    "SOTGLP": (
        Choice("vit_b16_batch256_lr0.01_ep50", (), IMAGENET),
        Choice("vit_b16_batch10_lr0.001", (), ("eurosat",)),
        Choice("vit_b16_n2_batch128_lr0.01", (), ("fgvc_aircraft",)),
        Choice("vit_b16_batch128_lr0.002", (), ("dtd",)),
        Choice("vit_b16_batch128", (), ("sun397", "ucf101")),
        Choice("vit_b16_n6_gram_batch128", (), ("food101",)),
        Choice("vit_b16_n6_gram", (), ("oxford_pets",)),
        Choice("vit_b16_n6", (), ("caltech101", "oxford_flowers")),
        Choice("vit_b16"),
    ),
    "TCP": (Choice("vit_b16_ep25", (), ("imagenet", "sun397")), Choice("vit_b16")),
    "TaskRes": (
        *_of_taskres("rn50_imagenet", IMAGENET),
        *_of_taskres("rn50_flowers", ("oxford_flowers",)),
        *_of_taskres("rn50", ()),
    ),
    "TipAdapter": (Choice("rn50_imagenet", (), IMAGENET), Choice("rn50")),
    "TipAdapterF": (
        Choice("rn50_imagenet", (), IMAGENET),
        Choice("rn50_ep100", (), ("eurosat",)),
        Choice("rn50"),
    ),
    "ZeroshotCLIP": (Choice("vit_b16"),),
    "ZeroshotCLIP2": (Choice("vit_b16"),),
}


def published_config(trainer: str, protocol: str, dataset: str, shots: int) -> str:
    """The config of `trainer` for a protocol: its choice, or else the only one that it has beside the bundled model's.

    ValueError for a method that has neither, with the configs it has.
    """
    shipped.check_trainer(trainer)
    for choice in CHOICES.get(trainer, ()):
        if choice.fits(protocol, dataset, shots):
            return choice.config
    real = [name for name in shipped.configs(trainer) if name != "mini"]
    if len(real) == 1:
        return real[0]
    raise ValueError(
        f"{trainer} has no published config, write {trainer}/CONFIG with one of: "
        f"{', '.join(shipped.configs(trainer))}"
    )
