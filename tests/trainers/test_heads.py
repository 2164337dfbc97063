"""Heads on cached features: what their common part promises, and what each says in its docstring."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from tests.trainers.harness import assert_close, evaluate, fit, learned, load
from trainers import heads, tip_adapter
from trainers.heads import FeatureLoader
from trainers.tip_adapter import TipAdapterModel

PLAIN = ["INPUT.TRANSFORMS", ("normalize",), "DATALOADER.TRAIN_X.SAMPLER", "SequentialSampler"]


@pytest.fixture(scope="module")
def tip(shared):
    """The recorded training-free case."""
    return load_file(shared / "parity_newer/tipadapter/tipadapter.safetensors")


def test_training_on_kept_features_is_training_on_images_where_nothing_is_random(make):
    start = learned(make("CLIPAdapter", output="start"))
    ours, theirs = (
        learned(fit(make("CLIPAdapter", *PLAIN, "TRAINER.CLIPADAPTER.PASSES", passes, output=str(passes))))
        for passes in (2, 0)
    )
    for name, value in theirs.items():
        assert_close(ours[name], value, 1e-5)
        assert not torch.equal(value, start[name])


def test_images_are_encoded_in_the_passes_and_never_again(make, monkeypatch):
    trainer, seen = make("TaskRes", "TRAINER.TaskRes.PASSES", 3), []
    encode = trainer.model.encode_images
    monkeypatch.setattr(trainer.model, "encode_images", lambda x: (seen.append(x.dim()), encode(x))[1])
    fit(trainer)
    assert seen.count(4) == 3  # 20 images are one batch of an evaluation
    assert seen.count(2) == 3 * len(trainer.train_loader_x)
    assert len(trainer.train_loader_x) == 4


def test_an_epoch_has_every_image_once_in_any_of_its_passes():
    views = torch.arange(3)[:, None] * 100 + torch.arange(10)  # pass and image in one number
    batches = [[3, 1, 4], [0, 5, 9], [2, 6, 8]]
    loader = FeatureLoader(views[..., None], torch.arange(10) * 2, batches)
    epochs = [torch.cat([batch["img"][:, 0] for batch in loader]) for _ in range(8)]
    labels = torch.cat([batch["label"] for batch in loader])
    assert labels.tolist() == [2 * image for image in itertools.chain(*batches)]
    assert all((epoch % 100).tolist() == list(itertools.chain(*batches)) for epoch in epochs)
    assert {int(view) for view in torch.stack(epochs).flatten() // 100} == {0, 1, 2}


def test_passes_differ_and_more_of_them_begin_with_the_same(make):
    trainer = make("TaskRes")
    before = torch.get_rng_state()
    two, labels = trainer.views(2)
    assert torch.equal(torch.get_rng_state(), before)
    assert not torch.equal(two[0], two[1])
    assert labels.tolist() == [item.label for item in trainer.dm.dataset.train_x]
    three, _ = trainer.views(3)
    assert torch.equal(three[:2], two)


def test_several_processes_gather_the_batches_in_their_order(make, monkeypatch):
    """Of three batches two processes take two each, the last one twice."""
    trainer = make("TaskRes", *PLAIN, "DATALOADER.TEST.BATCH_SIZE", 8)
    loader = trainer.images_in_order()
    features, labels = trainer.encode(loader)
    first, second, last = loader
    others = iter([second, last])

    def collect(own):
        batch = next(others)
        return [own, (trainer.model.encode_images(batch["img"]), batch["label"])]

    class Mine(list):
        batches_of_all = 3

    monkeypatch.setattr(heads.data_parallel, "collect", collect)
    together = trainer.encode(Mine([first, last]))
    assert torch.equal(together[0], features)
    assert torch.equal(together[1], labels)


@pytest.mark.parametrize(("method", "section"), [("TaskRes", "TaskRes"), ("CLAP", "ADAPTER")])
def test_underscores_are_spaces_but_in_the_release(method, section, make, monkeypatch):
    models = {}
    for variant in ("paper", "release"):
        trainer = make(method, f"TRAINER.{section}.VARIANT", variant, output=variant)
        model = trainer.model
        models[variant] = type(model)(
            trainer.cfg, model.clip, ["permanent_crop", "river"], "a photo of a {}."
        )
    paper, release = (models[variant].base for variant in ("paper", "release"))
    plain = models["paper"].clip.text.encode(["a photo of a permanent crop.", "a photo of a river."])
    assert_close(paper, plain, 1e-5)
    assert_close(release[1:], plain[1:], 1e-5)
    assert (release[0] - plain[0]).abs().max() > 0.01 * plain.abs().max()


def test_the_enhanced_base_is_the_text_tower_with_another_projection(make, images, tmp_path):
    model = make("TaskRes").model
    projection = model.clip.text.text_projection
    projection = projection.weight.T if isinstance(projection, torch.nn.Linear) else projection
    other = projection + 0.1 * torch.randn(projection.shape, generator=torch.Generator().manual_seed(0))
    torch.save({"weight": other.T.contiguous()}, tmp_path / "tuned.pth")
    tuned = ["TRAINER.TaskRes.ENHANCED_BASE", str(tmp_path / "tuned.pth")]
    found = make("TaskRes", *tuned).model.base
    # the map from one projection's output to the other's, by least squares on states that are known
    states = torch.randn(500, len(projection), generator=torch.Generator().manual_seed(1)).double()
    mapped = torch.linalg.lstsq(states @ projection.double(), states @ other.double()).solution
    assert_close(found, (model.base.double() @ mapped).float(), 1e-4)

    trainer = fit(make("TaskRes", *tuned, "OPTIM.MAX_EPOCH", 1, output="enhanced"))
    (tmp_path / "tuned.pth").unlink()
    elsewhere = load(make("TaskRes", *tuned, output="elsewhere"), trainer.cfg.OUTPUT_DIR)
    assert torch.equal(evaluate(elsewhere, images), evaluate(trainer, images))

    torch.save({"weight": torch.zeros(2, 2)}, tmp_path / "wrong.pth")
    with pytest.raises(ValueError, match="holds no text projection of shape"):
        make("TaskRes", "TRAINER.TaskRes.ENHANCED_BASE", str(tmp_path / "wrong.pth"))
    with pytest.raises(
        FileNotFoundError, match=r"TRAINER\.TaskRes\.ENHANCED_BASE none_such: there is no such file"
    ):
        make("TaskRes", "TRAINER.TaskRes.ENHANCED_BASE", "none_such").train()


def test_clap_holds_each_class_as_the_release_does(make, shared):
    recorded = load_file(shared / "parity_newer/clap/clap.safetensors")
    labels = load_file(shared / "parity/shared/inputs.safetensors")
    labels = torch.cat([labels["labels"], labels["labels2"]])
    probabilities = recorded["extra.zero_shot_logits"].softmax(dim=-1)
    model = make("CLAP").model
    model.base = torch.zeros(6, 1)
    model.scaled_cosines = lambda images, texts: probabilities.log()
    model.set_multipliers(probabilities, labels)
    # a class without an image: 0 here, whatever there
    there = F.one_hot(labels, 6).sum(dim=0) > 0
    assert_close(model.multipliers[there], recorded["extra.class_multipliers"][there], 1e-5)


def test_the_plain_probe_is_not_held(make):
    for constraint, held in (("l2", True), ("none", False)):
        trainer = make("CLAP", "TRAINER.ADAPTER.CONSTRAINT", constraint, output=constraint)
        trainer.set_model_mode("train")
        model = trainer.model
        with torch.no_grad():
            model.prototypes += 1.0
            batch = next(iter(trainer.train_loader_x))
            loss, logits = model.loss(batch["img"], batch["label"])
        assert (loss > F.cross_entropy(logits, batch["label"]) + 1) == held
    far = make("CLAP", "TRAINER.ADAPTER.INIT", "RANDOM", output="random").model
    assert (far.prototypes - far.base).abs().max() > 0.01


class TestTipAdapter:
    def test_the_cache_is_the_mean_of_the_passes_and_the_labels(self, make):
        trainer = make("TipAdapter", "TRAINER.TIPADAPTER.KEY_PASSES", 3)
        trainer.set_model_mode("train")
        features, labels = trainer.views(3)
        keys = F.normalize(features.mean(dim=0), dim=-1)
        assert_close(trainer.model.keys.T, keys, 1e-6)
        assert torch.equal(trainer.model.values.argmax(dim=1), labels)
        assert trainer.model.values.sum() == len(labels)

    def test_the_search_finds_what_the_release_found(self, make, tip, shared):
        model = make("TipAdapter").model
        labels = load_file(shared / "parity/shared/inputs.safetensors")["labels"]
        model.texts, model.values = tip["extra.clip_weights"].T, tip["buffer.cache_values"]
        model.keys = tip["buffer.cache_keys"]
        model.search(tip["eval.image_encoder"], labels, (12.0, 10.0))
        beta, alpha = tip["extra.search_beta_alpha"].tolist()
        assert model.scales.tolist() == pytest.approx([alpha, beta])
        logits = model.score(tip["eval.image_encoder"], model.encode_texts())
        assert_close(logits, tip["extra.logits_after_search"], 1e-5)

    @pytest.mark.parametrize("method", ["TipAdapter", "TipAdapterF"])
    def test_a_run_searches_and_its_checkpoint_keeps_what_was_found(self, method, make, images, monkeypatch):
        searched = []

        def search(self, features, labels, ends):
            searched.append((len(labels), ends))
            self.scales = torch.tensor([1.5, 2.5])

        monkeypatch.setattr(TipAdapterModel, "search", search)
        base = ["DATASET.SUBSAMPLE_CLASSES", "base", "OPTIM.MAX_EPOCH", 2]
        trainer = fit(make(method, *base, "TRAINER.TIPADAPTER.SCALES", (0.0, 4.0)))
        assert searched == [(len(trainer.dm.dataset.val), (12.0, 4.0))]
        again = load(make(method, *base, output="again"), trainer.cfg.OUTPUT_DIR)
        assert again.model.scales.tolist() == [1.5, 2.5]
        assert torch.equal(evaluate(again, images), evaluate(trainer, images))
        with pytest.raises(ValueError, match="classes"):  # a cache is of its classes
            load(make(method, output="all"), trainer.cfg.OUTPUT_DIR)

    def test_a_search_without_validation_images_is_refused(self, make):
        trainer = make("TipAdapter")
        trainer.val_loader = None
        with pytest.raises(
            ValueError, match=r"SEARCH is True, HandwrittenDigits has no validation images"
        ) as said:
            trainer.train()
        assert "\n" not in str(said.value)
        quiet = make("TipAdapter", "TRAINER.TIPADAPTER.SEARCH", False, output="quiet")
        quiet.val_loader = None
        assert fit(quiet).model.scales.tolist() == pytest.approx([tip_adapter.OTHER.alpha, 1.0])

    def test_a_search_on_test_images_is_refused(self, make):
        """Data sets of plugins give test images for validation where they have no others."""
        trainer = make("TipAdapter")
        trainer.dm.dataset._val = [*trainer.dm.dataset.val, trainer.dm.dataset.test[0]]
        with pytest.raises(ValueError, match=r"SEARCH is True, and 1 of the validation images of "):
            trainer.train()

    def test_the_last_epoch_counts_but_in_the_release(self, make, monkeypatch):
        monkeypatch.setattr(TipAdapterModel, "search", lambda *_: None)
        ends = {}
        for variant in ("paper", "release"):
            options = ["TRAINER.TIPADAPTER.VARIANT", variant, "TEST.NO_TEST", False, "OPTIM.LR", 0.1]
            trainer, epochs = make("TipAdapterF", *options, output=variant), []
            accuracies = iter([10.0, 30.0, 20.0, *[20.0] * 9])
            after = trainer.after_epoch

            def note(trainer=trainer, epochs=epochs, after=after):
                epochs.append(trainer.model.keys.detach().clone())
                after()

            trainer.after_epoch, trainer.test = note, lambda split=None, left=accuracies: next(left)
            fit(trainer)
            ends[variant] = [torch.equal(trainer.model.keys, keys) for keys in epochs]
        assert ends == {"paper": [False, False, True], "release": [False, True, False]}
        with pytest.raises(
            ValueError, match=r"VARIANT is release, which chooses by test images: TEST\.NO_TEST"
        ):
            make("TipAdapterF", "TRAINER.TIPADAPTER.VARIANT", "release", output="silent").train()

    def test_the_best_epochs_keys_are_searched_for_and_tested(self, make, images, monkeypatch):
        """What is tested after a choice of epochs has the alpha and beta that go with its keys."""
        searched, keys = [], []

        def search(self, *_):
            searched.append(self.keys.detach().clone())
            self.scales = torch.tensor([1.5, 2.5])

        monkeypatch.setattr(TipAdapterModel, "search", search)
        chosen = ["TEST.NO_TEST", False, "TEST.FINAL_MODEL", "best_val", "OPTIM.LR", 0.1]
        trainer = make("TipAdapterF", *chosen)
        accuracies, after = iter([20.0, 30.0, 10.0, 0.0]), trainer.after_epoch
        trainer.after_epoch = lambda: (keys.append(trainer.model.keys.detach().clone()), after())
        trainer.test = lambda split=None: next(accuracies)
        fit(trainer)
        assert [torch.equal(found, keys[1]) for found in searched] == [True]
        assert torch.equal(trainer.model.keys, keys[1])
        assert trainer.model.scales.tolist() == [1.5, 2.5]
        again = load(make("TipAdapterF", output="again"), trainer.cfg.OUTPUT_DIR)
        assert torch.equal(evaluate(again, images), evaluate(trainer, images))
        with pytest.raises(ValueError, match=r"which chooses by test images: .*FINAL_MODEL 'last_step'"):
            make("TipAdapterF", *chosen, "TRAINER.TIPADAPTER.VARIANT", "release", output="both").train()

    def test_a_model_is_built_for_as_many_images_as_its_checkpoint_has(self, make, images):
        trainer = fit(make("TipAdapterF", "OPTIM.MAX_EPOCH", 1, "TRAINER.TIPADAPTER.SEARCH", False))
        other = make("TipAdapterF", "DATASET.NUM_SHOTS", 1, output="other")
        assert torch.equal(evaluate(load(other, trainer.cfg.OUTPUT_DIR), images), evaluate(trainer, images))
