"""SOT-GLP: local-global prompt learning via sparse optimal transport (Kizaroglu et al., arXiv 2603.08347).

GalLoP's global prompts, and local prompts of each class's own, so that it serves the classes that it was trained on
alone. Features of patches come from a second path through the image tower, in which values attend to values; of each
image and class the K patches that are most like the class's local prompts, on the mean, are matched with these by
balanced optimal transport, so that prompts share patches out among themselves instead of all taking the same.

local = sum_kn T_kn cos_kn,  T the plan between K patches and N_l prompts with uniform marginals and the cost 1 - cos,
entropy 0.1, constant for the gradient: PLOT's score, of a part of the patches.

``VARIANT: release`` is the authors' code. The first block's ordinary attention leaks into the second path, by an
addition in place. The local score is divided by N_l, as its sum over patches is averaged over prompts: it counts little
beside the global one. The scaling iteration ends for the whole batch at once, so that an image's score depends on the
others. And what GalLoP's release does: draws with replacement, underscores in class names.
A checkpoint of theirs has the classes in the order in which its data set's split file first names them, and says it
nowhere: it serves where that is the order of the labels.
"""

import torch
from torch import Tensor, nn
from yacs.config import CfgNode

from alignment import prompt_plan
from clip import CLIP
from dassl.engine import TRAINER_REGISTRY
from foundation.keys import Key, at_least, one_of

from .base import PromptTrainer
from .gallop import KEYS, TOPK, GalLoPModel, Images, Texts
from .matching import Matching
from .release import Release
from .text_context import TextContext
from .unit import unit

GRAM_SCALE = 0.001  #: of orthonormal prompts at the start


class SOTGLPModel(GalLoPModel):
    """Global prompts (N_g, n, w), local prompts (C, N_l, n, w), and W (d_v, d_v)."""

    section = "SOTGLP"

    def __init__(self, cfg: CfgNode, clip: CLIP, classnames: list[str], template: str) -> None:
        super().__init__(cfg, clip, classnames, template)
        self.tap = self.tap._replace(path="value-value", first_attention=self.as_released)
        self.scores_batches = self.as_released
        self.stop = "release" if self.as_released else "problem"
        if self.local_context is not None:
            self.fits_these_classes_only()

    def new_local_context(self, classnames: list[str], number: int) -> TextContext:
        context = self.new_context(classnames, number, class_specific=True)
        start(context.ctx, self.options.INIT_METHOD)
        return context

    def set_patches(self, patches: int, prompts: int) -> None:
        self.chosen = max(self.options.TOPK)
        if self.chosen > patches:
            raise ValueError(
                f"TOPK is {tuple(self.options.TOPK)}, the image tower of {self.clip.name} has {patches} patches: as "
                "many can be chosen at most"
            )

    def encode_texts(self) -> Texts:
        whole = unit(self.class_texts.encode(self.context()).summary)
        if self.local_context is None:
            return Texts(whole, whole)
        return Texts(whole, unit(self.class_texts.encode(self.local_context()).summary))

    def transport(self, cosines: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Of cosines (B, C, N_l, P): the chosen patches (B, C, K), their cosines (B, C, K, N_l), and the plans."""
        patches = cosines.mean(dim=2).topk(self.chosen, dim=-1).indices
        index = patches[:, :, None].expand(-1, -1, cosines.shape[2], -1)
        of_chosen = cosines.gather(3, index).transpose(2, 3)
        return patches, of_chosen, prompt_plan(1 - of_chosen, stop=self.stop)

    def local_scores(self, cosines: Tensor) -> Tensor:
        """Of cosines (B, C, N_l, P): (B, C, 1)."""
        _, of_chosen, plan = self.transport(cosines)
        return self.worth(plan, of_chosen)

    def worth(self, plan: Tensor, cosines: Tensor) -> Tensor:
        """(B, C, 1) of plans and cosines (B, C, K, N_l)."""
        score = (plan * cosines).sum((-2, -1))
        return (score / cosines.shape[3] if self.as_released else score)[..., None]

    def matching(self, images: Images, texts: Texts, classes: Tensor) -> Matching:
        """The plan is between patches, zero at those not chosen, and whole prompts: told as that of tokens."""
        whole, cosines = self.cosines(images, texts)
        patches, of_chosen, plan = self.transport(cosines)
        place = patches[:, classes, :, None].expand_as(plan[:, classes])
        plans = plan.new_zeros(*place.shape[:2], cosines.shape[3], place.shape[3])
        uniform = torch.full_like(plan, 1 / plan[0, 0].numel())
        return Matching(
            prompts=None,
            tokens=plans.scatter(2, place, plan[:, classes])[:, :, None, None],
            score=self.fused(whole, self.worth(plan, of_chosen)),
            uniform_prompts=None,
            uniform=self.fused(whole, self.worth(uniform, of_chosen)),
        )

    def words(self, label: int) -> list[list[str]]:
        prompts = (self.local_context or self.context).words(label)
        return [[f"{n}: {' '.join(words[1:-1])}" for n, words in enumerate(prompts, start=1)]]


@torch.no_grad()
def start(prompts: Tensor, method: str) -> None:
    """Where local prompts (C, N_l, n, w) begin: Xavier-uniform, or orthogonal within a class ("gram")."""
    if method == "random":
        nn.init.xavier_uniform_(prompts)
        return
    vectors = torch.randn_like(prompts).flatten(2)  # (C, N_l, n w)
    prompts.copy_(GRAM_SCALE * torch.linalg.qr(vectors.transpose(1, 2)).Q.transpose(1, 2).view_as(prompts))


@TRAINER_REGISTRY.register()
class SOTGLP(PromptTrainer):
    model_class = SOTGLPModel
    model_name = "sotglp_vit_b16"
    section = "SOTGLP"
    disclosures = ("set_for_dataset",)
    keys = KEYS | {
        "VARIANT": Key("paper", "release: the authors' code with its faults", one_of("paper", "release")),
        "N_GLOBAL_PROMPTS": Key(3, "N_g", at_least(1)),
        "N_LOCAL_PROMPTS": Key(4, "N_l, of each class", at_least(1)),
        "TOPK": Key((10,), "K, patches that are matched: the largest counts", TOPK),
        "INIT_METHOD": Key("random", "where local prompts begin, gram: orthogonal", one_of("random", "gram")),
        "PARALLEL_TEXT_ENCODER": Key(
            True, "the release's key, which has no local prompts without", one_of(True)
        ),
    }
    released_as = {"SOTGLP": Release("SOTGLP", settings={"VARIANT": "release"}, only={})}
