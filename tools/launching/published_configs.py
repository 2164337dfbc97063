"""Which config a method's authors used for which protocol, by the names under configs/trainers/."""

from runs import shipped

# A method's config where nothing below says otherwise.
USUAL = {
    "APLe": "vit_b16",
    "CoCoOp": "vit_b16_c4_ep10_batch1_ctxv1",
    "CoOp": "vit_b16_ep50_ctxv1",  # of CoCoOp's comparison
    "IVLP": "vit_b16_c2_ep5_batch4_2+2ctx",
    "KgCoOp": "vit_b16_ep100",
    "MMTPA": "vit_b16",
    "MaPLe": "vit_b16_c2_ep5_batch4_2ctx",
    "MuDPT": "vit_b16_transformer",
    "PLOT": "rn50",
    "ProGrad": "vit_b16",
    "PromptSRC": "vit_b16_c2_ep20_batch4_4+4ctx",
    "VPT": "vit_b16_c2_ep5_batch4_4",
    "ZeroshotCLIP": "vit_b16",
    "ZeroshotCLIP2": "vit_b16",
}
TRANSFER = {
    "MaPLe": "vit_b16_c2_ep5_batch4_2ctx_cross_datasets",
    "PromptSRC": "vit_b16_c2_ep20_batch4_4+4ctx_cross_datasets",
}
# By shots; None for ImageNet with any number of them.
_COOP_EPOCHS = {1: "_ep50", 2: "_ep100", 4: "_ep100", 8: "", 16: "", None: "_ep50"}
_MMTPA_EPOCHS = {1: "_ep30", 2: "_ep50", 4: "_ep50", 8: "_ep80", 16: "_ep80", None: ""}
FEWSHOT: dict[str, dict[int | None, str]] = {
    "CoOp": {shots: f"vit_b16{ending}" for shots, ending in _COOP_EPOCHS.items()},
    "MMTPA": {shots: f"vit_b16{ending}" for shots, ending in _MMTPA_EPOCHS.items()},
    "PLOT": {shots: f"rn50{ending}" for shots, ending in _COOP_EPOCHS.items()},
    "ProGrad": {shots: f"vit_b16{ending}" for shots, ending in _COOP_EPOCHS.items()},
    "PromptSRC": dict.fromkeys((1, 2, 4, 8, 16, None), "vit_b16_c2_ep50_batch4_4+4ctx_few_shot"),
}


def published_config(trainer: str, protocol: str, dataset: str, shots: int) -> str:
    """The config of `trainer` for a protocol; ValueError for a method without one, with the configs it has."""
    shipped.check_trainer(trainer)
    config = USUAL.get(trainer)
    if protocol in ("xd", "dg"):
        config = TRANSFER.get(trainer, config)
    elif protocol == "fewshot" and trainer in FEWSHOT:
        config = FEWSHOT[trainer].get(None if dataset == "imagenet" else shots, config)
    if config is None:
        raise ValueError(
            f"{trainer} has no published config, write {trainer}/CONFIG with one of: "
            f"{', '.join(shipped.configs(trainer))}"
        )
    return config
