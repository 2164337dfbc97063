"""The config keys of Dassl 0.6.3.

Where names come from lists that others may extend (optimisers, transforms, evaluators ...), the engine's lists are
what is allowed: runs/schema.py asks it.
"""

from typing import Any

from .key import Allowed, Key, above, any_number, at_least, at_most, between, each, one_of, share

SAMPLERS = one_of(
    "RandomSampler", "SequentialSampler", "RandomDomainSampler", "SeqDomainSampler", "RandomClassSampler"
)
_below_one = between(0, 1, below=True)
_part_of_image = Allowed(
    lambda ends: len(ends) == 2 and 0 < ends[0] <= ends[1],
    "two shares of the image's area are needed, the smaller one first",
    "two shares of the image's area, the smaller one first",
)
_odd = Allowed(lambda size: size > 0 and size % 2 == 1, "an odd number is needed", "odd")

_INPUT = {
    "SIZE": Key((224, 224), "height and width in pixels that the backbone takes", each(at_least(1), 2)),
    "INTERPOLATION": Key("bilinear", "how images are resized"),
    "TRANSFORMS": Key((), "what is done to images, by name; of these only normalize to test images"),
    "NO_TRANSFORM": Key(False, "leave images as they were read"),
    "PIXEL_MEAN": Key([0.485, 0.456, 0.406], "normalize: subtracted from each channel", each(any_number, 3)),
    "PIXEL_STD": Key([0.229, 0.224, 0.225], "normalize: then divided by", each(above(0), 3)),
    "CROP_PADDING": Key(4, "random_crop: pixels added at each edge", at_least(0)),
    "RRCROP_SCALE": Key(
        (0.08, 1.0), "random_resized_crop: least and largest part of the image", _part_of_image
    ),
    "CUTOUT_N": Key(1, "cutout: squares", at_least(1)),
    "CUTOUT_LEN": Key(16, "cutout: their side in pixels", at_least(1)),
    "GN_MEAN": Key(0.0, "gaussian_noise: mean"),
    "GN_STD": Key(0.15, "gaussian_noise: standard deviation", at_least(0)),
    "RANDAUGMENT_N": Key(2, "randaugment: operations for an image", at_least(1)),
    "RANDAUGMENT_M": Key(10, "randaugment: their strength", between(0, 30)),
    "COLORJITTER_B": Key(0.4, "colorjitter: brightness", at_least(0)),
    "COLORJITTER_C": Key(0.4, "colorjitter: contrast", at_least(0)),
    "COLORJITTER_S": Key(0.4, "colorjitter: saturation", at_least(0)),
    "COLORJITTER_H": Key(0.1, "colorjitter: hue", between(0, 0.5)),
    "RGS_P": Key(0.2, "randomgrayscale: probability", share),
    "GB_P": Key(0.5, "gaussian_blur: probability", share),
    "GB_K": Key(21, "gaussian_blur: size of the kernel in pixels", _odd),
}
_DATASET = {
    "ROOT": Key("", "folder of the data sets (--root)", is_path=True),
    "NAME": Key("", "the data set"),
    "SOURCE_DOMAINS": Key((), "domains to learn from (--source-domains)"),
    "TARGET_DOMAINS": Key((), "domains to test on (--target-domains)"),
    "NUM_LABELED": Key(-1, "labelled images in total, of semi-supervised learning"),
    "NUM_SHOTS": Key(-1, "training images of a class; below 1: all"),
    "VAL_PERCENT": Key(0.1, "part of the training images that validates, where Dassl splits them", share),
    "STL10_FOLD": Key(-1, "of Dassl's STL10: which fold; negative: all images"),
    "CIFAR_C_TYPE": Key("", "of Dassl's CIFAR-C: the corruption"),
    "CIFAR_C_LEVEL": Key(1, "of Dassl's CIFAR-C: its strength", between(1, 5)),
    "ALL_AS_UNLABELED": Key(False, "take the labelled images as unlabelled ones, too"),
}


def _train_loader(whose: str) -> dict[str, Key]:
    return {
        "SAMPLER": Key("RandomSampler", f"order of the {whose} images", SAMPLERS),
        "BATCH_SIZE": Key(32, f"{whose} images of a training step", at_least(1)),
        "N_DOMAIN": Key(0, "RandomDomainSampler: domains in a batch; below 1: all"),
        "N_INS": Key(16, "RandomClassSampler: images of a class in a batch", at_least(1)),
    }


def _under(section: str, keys: dict[str, Key]) -> dict[str, Key]:
    return {f"{section}.{name}": key for name, key in keys.items()}


_DATALOADER = {
    "NUM_WORKERS": Key(4, "processes that load images; 0: the program itself", at_least(0)),
    "K_TRANSFORMS": Key(1, "augmented views of an image in training", at_least(1)),
    "RETURN_IMG0": Key(False, "also load the image without augmentation, as img0"),
    **_under("TRAIN_X", _train_loader("labelled")),
    "TRAIN_U.SAME_AS_X": Key(True, "unlabelled images are loaded as labelled ones"),
    **_under("TRAIN_U", _train_loader("unlabelled")),
    "TEST.SAMPLER": Key("SequentialSampler", "order of the images in an evaluation", SAMPLERS),
    "TEST.BATCH_SIZE": Key(32, "images of an evaluation that are scored at once", at_least(1)),
}
_MODEL = {
    "INIT_WEIGHTS": Key("", "checkpoint whose weights training starts from", is_path=True),
    "BACKBONE.NAME": Key("", "the CLIP model (--backbone)"),
    "BACKBONE.PRETRAINED": Key(True, "of Dassl's backbones: start from published weights"),
    "HEAD.NAME": Key("", "of Dassl's trainers that have one: the head (--head)"),
    "HEAD.HIDDEN_LAYERS": Key((), "its widths", each(at_least(1))),
    "HEAD.ACTIVATION": Key("relu", "its activation function", one_of("relu", "leaky_relu")),
    "HEAD.BN": Key(True, "whether it has batch norm"),
    "HEAD.DROPOUT": Key(0.0, "probability with which its features are dropped", _below_one),
}
_OPTIM = {
    "NAME": Key("adam", "the optimiser"),
    "LR": Key(0.0003, "learning rate", at_least(0)),
    "WEIGHT_DECAY": Key(5e-4, "weight decay", at_least(0)),
    "MOMENTUM": Key(0.9, "sgd, rmsprop: momentum", _below_one),
    "SGD_DAMPNING": Key(0, "sgd: dampening of the momentum", share),
    "SGD_NESTEROV": Key(False, "sgd: Nesterov's momentum"),
    "RMSPROP_ALPHA": Key(0.99, "rmsprop: smoothing", share),
    "ADAM_BETA1": Key(0.9, "adam and its like: decay of the first moment", _below_one),
    "ADAM_BETA2": Key(0.999, "adam and its like: decay of the second moment", _below_one),
    "STAGED_LR": Key(False, "all layers but NEW_LAYERS learn with LR * BASE_LR_MULT"),
    "NEW_LAYERS": Key((), "layers that learn with LR"),
    "BASE_LR_MULT": Key(0.1, "factor for the other layers", at_least(0)),
    "LR_SCHEDULER": Key("single_step", "how the learning rate falls"),
    "STEPSIZE": Key((-1,), "epochs after which it falls; below 1: never", each(any_number)),
    "GAMMA": Key(0.1, "factor by which it falls there", above(0)),
    "MAX_EPOCH": Key(10, "epochs", at_least(1)),
    "WARMUP_EPOCH": Key(-1, "epochs of warm-up; below 1: none"),
    "WARMUP_TYPE": Key("linear", "learning rate in the warm-up", one_of("linear", "constant")),
    "WARMUP_CONS_LR": Key(1e-5, "constant warm-up: learning rate", at_least(0)),
    "WARMUP_MIN_LR": Key(1e-5, "linear warm-up: learning rate of the first epoch", at_least(0)),
    "WARMUP_RECOUNT": Key(True, "the schedule begins behind the warm-up"),
}
_TRAIN = {
    "CHECKPOINT_FREQ": Key(0, "epochs between two checkpoints; below 1: the last epoch's only"),
    "PRINT_FREQ": Key(10, "batches between two printed lines", at_least(1)),
    "COUNT_ITER": Key(
        "train_x",
        "what an epoch goes through, with unlabelled images too",
        one_of("train_x", "train_u", "smaller_one"),
    ),
}
_TEST = {
    "EVALUATOR": Key("Classification", "what is measured"),
    "PER_CLASS_RESULT": Key(False, "print the accuracy of each class"),
    "COMPUTE_CMAT": Key(False, "save the confusion matrix as cmat.pt"),
    "NO_TEST": Key(False, "train without any evaluation"),
    "SPLIT": Key("test", "the images of an evaluation", one_of("test", "val")),
    "FINAL_MODEL": Key(
        "last_step",
        "the model that is tested after training: the last, or the best on validation images",
        one_of("last_step", "best_val"),
    ),
}

# Methods that are not part of this project; config files written for Dassl carry their keys.
_OTHERS: dict[str, dict[str, Any]] = {
    # domain adaptation
    "MCD": {"N_STEP_F": 4},
    "MME": {"LMDA": 0.1},
    "CDAC": {
        "CLASS_LR_MULTI": 10,
        "RAMPUP_COEF": 30,
        "RAMPUP_ITRS": 1000,
        "TOPK_MATCH": 5,
        "P_THRESH": 0.95,
        "STRONG_TRANSFORMS": (),
    },
    "SE": {"EMA_ALPHA": 0.999, "CONF_THRE": 0.95, "RAMPUP": 300},
    "M3SDA": {"LMDA": 0.5, "N_STEP_F": 4},
    "DAEL": {"WEIGHT_U": 0.5, "CONF_THRE": 0.95, "STRONG_TRANSFORMS": ()},
    # domain generalisation
    "CROSSGRAD": {"EPS_F": 1.0, "EPS_D": 1.0, "ALPHA_F": 0.5, "ALPHA_D": 0.5},
    "DDAIG": {
        "G_ARCH": "",
        "LMDA": 0.3,
        "CLAMP": False,
        "CLAMP_MIN": -1.0,
        "CLAMP_MAX": 1.0,
        "WARMUP": 0,
        "ALPHA": 0.5,
    },
    "DAELDG": {"WEIGHT_U": 0.5, "CONF_THRE": 0.95, "STRONG_TRANSFORMS": ()},
    "DOMAINMIX": {"TYPE": "crossdomain", "ALPHA": 1.0, "BETA": 1.0},
    # semi-supervised learning
    "ENTMIN": {"LMDA": 1e-3},
    "MEANTEACHER": {"WEIGHT_U": 1.0, "EMA_ALPHA": 0.999, "RAMPUP": 5},
    "MIXMATCH": {"WEIGHT_U": 100.0, "TEMP": 2.0, "MIXUP_BETA": 0.75, "RAMPUP": 20000},
    "FIXMATCH": {"WEIGHT_U": 1.0, "CONF_THRE": 0.95, "STRONG_TRANSFORMS": ()},
}

#: Whole name -> key.
DASSL: dict[str, Key] = {
    "VERSION": Key(1, "of Dassl's config"),
    "OUTPUT_DIR": Key("./output", "folder of the run (--output-dir)", is_path=True),
    "RESUME": Key("", "folder of the unfinished run to continue (--resume)", is_path=True),
    "SEED": Key(-1, "of all random numbers (--seed); negative: none", at_most(2**32 - 1)),
    "USE_CUDA": Key(True, "compute on a GPU where there is one"),
    "VERBOSE": Key(True, "print the settings first"),
    **_under("INPUT", _INPUT),
    **_under("DATASET", _DATASET),
    **_under("DATALOADER", _DATALOADER),
    **_under("MODEL", _MODEL),
    **_under("OPTIM", _OPTIM),
    **_under("TRAIN", _TRAIN),
    **_under("TEST", _TEST),
    "TRAINER.NAME": Key("", "the method (--trainer)"),
    **{
        f"TRAINER.{method}.{name}": Key(default, f"of Dassl's {method}, which is not part of this project")
        for method, keys in _OTHERS.items()
        for name, default in keys.items()
    },
}
