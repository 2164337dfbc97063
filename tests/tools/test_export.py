import json
import os
import re
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import open_clip
import pytest
import torch

from dassl.engine import TRAINER_REGISTRY
from runs.trained import load_run
from tests import copies
from tests.conftest import ROOT, Ended
from tests.trainers.harness import METHODS, build, learned, make_cfg
from tools.export import main
from tools.exporting import folder as folders
from tools.exporting.graph import TOLERANCE
from trainers.prompt_model import PromptModel

MATRIX = [
    "ATPromptCoOp",
    "CLAP",
    "CoOp",
    "KgCoOp",
    "ProGrad",
    "TCP",
    "TaskRes",
    "ZeroshotCLIP",
    "ZeroshotCLIP2",
]
QKV = "transformer.resblocks.0.attn.in_proj_weight"
PAGE = (ROOT / "docs" / "using.md").read_text(encoding="utf-8")


@pytest.fixture
def export(finished, tmp_path, capsys):
    """Run the command in this process: export("CoOp", "hub") -> how it ended, and the folder."""

    def run(method: str, form: str, *words: object) -> tuple[Ended, Path]:
        folder, code = tmp_path / form, 0
        try:
            main([finished(method).cfg.OUTPUT_DIR, "--to", form, "--output", str(folder), *map(str, words)])
        except SystemExit as end:
            code = int(end.code or 0)
        captured = capsys.readouterr()
        return Ended(code, captured.out, captured.err), folder

    return run


@pytest.fixture
def image(finished) -> Path:
    return Path(next(iter(finished("CoOp").test_loader))["impath"][0])


def run_documented(import_line: str, folder: Path, image: Path) -> str:
    """Run the page's block that begins so in `folder`, in a process that finds nothing of this project."""
    [block] = [
        code for code in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL) if code.startswith(import_line)
    ]
    shutil.copy(image, folder / "image.png")
    program = folder / "program.py"
    program.write_text(f"import importlib.util\nassert not importlib.util.find_spec('trainers')\n{block}")
    path = [entry for entry in sys.path if entry and not Path(entry).is_relative_to(ROOT)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path)}
    ran = copies.run([sys.executable, program], cwd=folder, env=environment, apart=True)
    program.unlink()
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


@pytest.mark.parametrize("method", METHODS)
def test_a_matrix_where_the_classifier_is_one_and_a_line_where_not(method, export, finished, image):
    ended, folder = export(method, "safetensors")
    if method not in MATRIX:
        ended.assert_wrong_input(method, "--to hub" if method == "CoCoOp" else "--to onnx")
        assert not folder.exists()
        assert "token" not in ended.err  # of an adapter that would be wrong
        return
    assert ended.code == 0, ended.err
    run = load_run(finished(method).cfg.OUTPUT_DIR, device="cpu")
    from safetensors.torch import load_file

    classifier = load_file(folder / "classifier.safetensors")
    features = run.model.clip.image(torch.stack([run.prepare(image)])).summary[:, 0]
    logits = (
        classifier["logit_scale"] * torch.nn.functional.normalize(features, dim=1) @ classifier["texts"].T
    )
    assert torch.allclose(logits, run.logits([image]), atol=1e-4)
    about = json.loads((folder / "classifier.json").read_text())
    assert about["classes"] == run.classnames
    assert about["backbone"] == {"name": "mini", "hash": run.model.clip.hash}


def test_the_documented_lines_classify_with_open_clip_alone(export, finished, image):
    _, folder = export("CoOp", "safetensors")
    label, probability = run_documented("import json, open_clip, torch", folder, image).split()
    [best] = load_run(finished("CoOp").cfg.OUTPUT_DIR, device="cpu").predict([image], k=1)
    assert label == best.labels[0]
    assert float(probability) == pytest.approx(best.probabilities[0], abs=1e-4)


def forms() -> list[str]:
    """Few methods with each part that a graph has: of one form, graphs differ in their constants alone.

    What is traced is how images are encoded, with changes in the image tower or without, and how they are scored.
    """
    parts = {}
    for name in METHODS:
        if name != "CoCoOp":  # it has no graph
            model = TRAINER_REGISTRY.get(name).model_class
            prompted = model.image_changes is not PromptModel.image_changes
            parts[name] = {("images", model.encode_images, prompted), ("score", model.score)}
    chosen, missing = [], set().union(*parts.values())
    while missing:
        chosen.append(max(parts, key=lambda name: len(parts[name] & missing)))
        missing -= parts[chosen[-1]]
    return chosen


@pytest.mark.parametrize("method", forms())
def test_a_graph_gives_the_logits_of_torch_for_any_batch(method, export, finished, image):
    pytest.importorskip("onnxscript")
    onnxruntime = pytest.importorskip("onnxruntime")
    ended, folder = export(method, "onnx")
    assert ended.code == 0, ended.err
    assert "compared with torch" in ended.out
    run = load_run(finished(method).cfg.OUTPUT_DIR, device="cpu")
    session = onnxruntime.InferenceSession(folder / "model.onnx")
    for batch in list(finished(method).test_loader)[:2]:
        images = batch["img"][:7]
        [there] = session.run(None, {"images": images.numpy()})
        here = run.logits(images)
        assert (torch.from_numpy(there) - here).abs().max() <= TOLERANCE * here.abs().max()
    if method == "MMTPA":
        said = run_documented("import json, onnxruntime, open_clip", folder, image)
        assert said.strip() == run.predict([image], k=1)[0].labels[0]


def test_a_graph_that_differs_is_not_written(export, monkeypatch):
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    monkeypatch.setattr("tools.exporting.graph.difference", lambda run, graph: 2e-4)
    some_graph = SimpleNamespace(save=lambda path: Path(path).write_text("a graph"))
    monkeypatch.setattr(torch.onnx, "export", lambda *args, **options: some_graph)
    ended, folder = export("ZeroshotCLIP", "onnx")
    ended.assert_wrong_input("differs from torch by 2.0e-04")
    assert not folder.exists()


def test_texts_that_depend_on_the_image_make_no_graph(export):
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    export("CoCoOp", "onnx")[0].assert_wrong_input("CoCoOp: its class texts depend on the image", "--to hub")


def test_missing_libraries_are_named(export, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    export("CoOp", "onnx")[0].assert_wrong_input("--to onnx needs onnx: pip install -e .[export]")


@pytest.mark.parametrize("method", METHODS)
def test_a_published_folder_is_used_like_the_run(method, export, finished):
    ended, folder = export(method, "hub")
    assert ended.code == 0, ended.err
    trainer = finished(method)
    images = next(iter(trainer.test_loader))["img"]
    published = load_run(folder, device="cpu")
    assert torch.equal(
        published.logits(images), load_run(trainer.cfg.OUTPUT_DIR, device="cpu").logits(images)
    )
    assert published.classnames == trainer.dm.dataset.classnames


def test_training_starts_from_a_published_folder(export, finished, data_root, tmp_path):
    _, folder = export("MaPLe", "hub")
    started = build(make_cfg("MaPLe", data_root, tmp_path / "more", "MODEL.INIT_WEIGHTS", str(folder)))
    expected = learned(finished("MaPLe"))
    assert all(torch.equal(value, expected[name]) for name, value in learned(started).items())
    with pytest.raises(FileNotFoundError, match=r"is a folder without model\.safetensors"):
        build(make_cfg("MaPLe", data_root, tmp_path / "more", "MODEL.INIT_WEIGHTS", str(tmp_path)))


def test_a_published_folder_names_no_place_of_the_machine(export, finished, data_root):
    _, folder = export("CoOp", "hub")
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    for path in folder.iterdir():
        assert str(data_root).encode() not in path.read_bytes()
        assert finished("CoOp").cfg.OUTPUT_DIR.encode() not in path.read_bytes()
    card = (folder / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: mmprompt\n")
    assert "zero, one, two, three, four" in card
    assert "TRAINER.COOP.N_CTX 16" in card
    assert "MMTPA" not in card


def test_a_name_on_the_hub_is_taken_from_its_cache(export, finished, tmp_path, monkeypatch):
    _, folder = export("CoOp", "hub")
    cache = tmp_path / "cache"
    place = cache / "models--owner--name"
    shutil.copytree(folder, place / "snapshots" / "0123456789abcdef0123456789abcdef01234567")
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text("0123456789abcdef0123456789abcdef01234567")
    for module in ("constants", "_snapshot_download.constants"):
        monkeypatch.setattr(f"huggingface_hub.{module}.HF_HUB_CACHE", str(cache))
    run = load_run("hf-hub:owner/name", device="cpu")
    assert all(
        torch.equal(value, learned(finished("CoOp"))[name]) for name, value in run.model.named_parameters()
    )

    monkeypatch.setattr("trainers.learned_folder.is_reachable", lambda address: False)
    with pytest.raises(OSError, match=r"'hf-hub:owner/other' is not cached and .* cannot be reached"):
        load_run("hf-hub:owner/other")
    with pytest.raises(ValueError, match="is no name on the hub, hf-hub:owner/name is needed"):
        load_run("hf-hub:a/b/c/d")


def test_damaged_weights_are_refused(export):
    _, folder = export("CoOp", "hub")
    (folder / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(ValueError, match=r"model.safetensors' is damaged, or no safetensors file"):
        load_run(folder)


@pytest.mark.parametrize("method", METHODS)
def test_a_whole_clip_where_weights_alone_change_and_a_line_where_not(method, export, finished, image):
    ended, folder = export(method, "open_clip")
    if method not in ("CLIPLoRA", "TwoStageFewShot"):
        ended.assert_wrong_input(method, "--to onnx")
        assert not folder.exists()
        return
    assert ended.code == 0, ended.err
    run = load_run(finished(method).cfg.OUTPUT_DIR, device="cpu")
    label, probability = run_documented("import json, open_clip, torch", folder, image).split()
    [best] = run.predict([image], k=1)
    assert label == best.labels[0]
    assert float(probability) == pytest.approx(best.probabilities[0], abs=1e-4)

    if method == "TwoStageFewShot":  # what it scores with is its classifier
        return
    model = open_clip.create_model(f"local-dir:{folder / 'backbone'}").eval()
    with torch.no_grad():
        texts = model.encode_text(
            open_clip.tokenize([f"a photo of a {name}." for name in run.classnames]), normalize=True
        )
        features = model.encode_image(run.prepare(image)[None], normalize=True)
        logits = model.logit_scale.exp() * features @ texts.T
    assert torch.allclose(logits, run.logits([image]), atol=1e-3)
    assert not torch.equal(model.visual.state_dict()[QKV], run.model.clip.image.visual.state_dict()[QKV])


def test_what_is_there_is_replaced_by_force_alone_and_the_rest_stays(export, tmp_path):
    (tmp_path / "hub").mkdir()
    (tmp_path / "hub" / "README.md").write_text("mine")
    (tmp_path / "hub" / "notes").write_text("mine")
    export("CoOp", "hub")[0].assert_wrong_input("is not empty", "--force")
    assert export("CoOp", "hub", "--force")[0].code == 0
    assert (tmp_path / "hub" / "README.md").read_text() != "mine"
    assert (tmp_path / "hub" / "notes").read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["hub"]


def test_a_failure_leaves_nothing(tmp_path):
    with pytest.raises(RuntimeError), folders.filled(tmp_path / "out") as place:
        (place / "half").write_text("half")
        raise RuntimeError
    assert not list(tmp_path.iterdir())


def test_images_prepared_in_a_way_that_others_lack_are_refused(finished, tmp_path, capsys):
    from tools.exporting.about import preprocessing

    run = load_run(finished("CoOp").cfg.OUTPUT_DIR, device="cpu")
    run.cfg.defrost()
    run.cfg.INPUT.INTERPOLATION = "nearest"
    with pytest.raises(ValueError, match=r"INPUT\.INTERPOLATION is nearest, bicubic or bilinear is needed"):
        preprocessing(run)
    run.cfg.INPUT.SIZE = (32, 64)
    with pytest.raises(ValueError, match=r"INPUT\.SIZE 32 x 64 is no square"):
        preprocessing(run)
