"""`--to onnx`: from a batch of images to logits, prompts of the image tower and transport included."""

import contextlib
import io
import json
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from foundation.errors import WrongInput
from runs.prediction import TrainedRun
from tools.exporting import about

GRAPH = "model.onnx"
ABOUT = "model.json"
TOLERANCE = 1e-4  #: of the largest logit
TRACED = 3  #: images; one alone would be taken for a constant
COMPARED = (1, 2, 5)  #: sizes of the batches that are compared


class Scores(nn.Module):
    """Logits of images, with class texts and visual prompts as they were learned."""

    def __init__(self, run: TrainedRun) -> None:
        super().__init__()
        self.model = run.model
        with torch.no_grad():
            self.texts = run.model.encode_texts()
            run.model.keep_image_changes()

    def forward(self, images: Tensor) -> Tensor:
        return self.model.score(self.model.encode_images(images), self.texts)


def check(run: TrainedRun) -> None:
    """ValueError where the libraries are missing, or the texts are no constants."""
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise WrongInput(f"--to onnx needs {error.name}: pip install -e .[export]") from error
    with torch.no_grad():
        if run.model.encode_texts() is None:
            raise WrongInput(
                f"{run.record['trainer']}: its class texts depend on the image, so the graph would hold the text tower "
                "and be run for every class and image: --to hub publishes its prompts"
            )


def write(run: TrainedRun, folder: Path) -> str:
    """The graph, compared with torch, and beside it classes and preprocessing."""
    described = {
        "input": "images, fp32 (batch, 3, height, width), preprocessed",
        "output": "logits, fp32 (batch, classes)",
        "classes": run.classnames,
        "preprocessing": about.preprocessing(run),
        "backbone": about.backbone(run),
        "method": run.record["trainer"],
        "images_of_a_batch_are_scored_together": bool(run.model.scores_batches),
    }
    example = torch.randn(TRACED, 3, *run.cfg.INPUT.SIZE)
    with torch.no_grad(), _quiet():
        try:
            program = torch.onnx.export(
                Scores(run).eval(),
                (example,),
                dynamo=True,
                input_names=["images"],
                output_names=["logits"],
                dynamic_shapes=({0: "batch"},),
                verbose=False,
            )
        except torch.onnx.errors.OnnxExporterError as error:
            reason = str(error.__cause__ or error).strip().splitlines()[0]
            raise ValueError(
                f"torch {torch.__version__} cannot export {run.record['trainer']} (2.9 or newer can): {reason}"
            ) from error
        assert program is not None
        program.save(str(folder / GRAPH))
    worst = difference(run, folder / GRAPH)
    if not worst <= TOLERANCE:
        raise ValueError(
            f"the graph of {run.record['trainer']} differs from torch by {worst:.1e} of the largest logit, {TOLERANCE} "
            "is allowed: it is not written"
        )
    (folder / ABOUT).write_text(json.dumps(described, indent=1, ensure_ascii=False), encoding="utf-8")
    return f"compared with torch: logits differ by {worst:.1e} of the largest"


def difference(run: TrainedRun, graph: Path) -> float:
    """The largest difference of logits between onnxruntime and torch, as a part of the largest logit."""
    import onnxruntime

    onnxruntime.set_default_logger_severity(3)
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    generator, worst = torch.Generator().manual_seed(0), 0.0
    for size in COMPARED:
        images = torch.randn(size, 3, *run.cfg.INPUT.SIZE, generator=generator)
        [there] = session.run(["logits"], {"images": images.numpy()})
        here = run.logits(images, batch_size=size)
        worst = max(worst, float((torch.from_numpy(there) - here).abs().max() / here.abs().max()))
    return worst


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Exporters tell of their own affairs on all channels."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
