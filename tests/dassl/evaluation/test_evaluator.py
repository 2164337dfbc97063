import pytest
import torch
from sklearn.metrics import f1_score
from torch.nn.functional import one_hot

from dassl.config import get_cfg_default
from dassl.evaluation import build_evaluator

TRUE = [0, 0, 0, 1, 1, 2, 2, 2]
PREDICTED = [0, 0, 1, 1, 1, 2, 0, 2]


@pytest.fixture
def cfg(tmp_path):
    cfg = get_cfg_default()
    cfg.OUTPUT_DIR = str(tmp_path)
    cfg.VERBOSE = False
    return cfg


def evaluate(cfg):
    evaluator = build_evaluator(cfg, lab2cname={0: "cat", 1: "dog", 2: "owl"})
    evaluator.process(torch.rand(3, 3), torch.tensor([0, 1, 2]))  # of an earlier evaluation
    evaluator.reset()
    for part in (slice(0, 5), slice(5, 8)):
        evaluator.process(one_hot(torch.tensor(PREDICTED[part]), 3).float(), torch.tensor(TRUE[part]))
    return evaluator, evaluator.evaluate()


def test_results_and_printed_block(cfg, capsys):
    evaluator, results = evaluate(cfg)
    macro_f1 = 100 * f1_score(TRUE, PREDICTED, average="macro")
    assert list(results) == ["accuracy", "error_rate", "macro_f1"]
    assert list(results.values()) == pytest.approx([75, 25, macro_f1])
    assert (evaluator._y_true, evaluator._y_pred) == (TRUE, PREDICTED)
    assert capsys.readouterr().out == (
        "=> result\n* total: 8\n* correct: 6\n"
        f"* accuracy: 75.0%\n* error: 25.0%\n* macro_f1: {macro_f1:.1f}%\n"
    )


def test_per_class_result_and_confusion_matrix(cfg, capsys, tmp_path):
    cfg.TEST.PER_CLASS_RESULT = True
    cfg.TEST.COMPUTE_CMAT = True
    _, results = evaluate(cfg)
    assert results["perclass_accuracy"] == pytest.approx((200 / 3 + 100 + 200 / 3) / 3)
    assert capsys.readouterr().out.splitlines()[6:] == [
        "=> per-class result",
        "* class: 0 (cat)\ttotal: 3\tcorrect: 2\tacc: 66.7%",
        "* class: 1 (dog)\ttotal: 2\tcorrect: 2\tacc: 100.0%",
        "* class: 2 (owl)\ttotal: 3\tcorrect: 2\tacc: 66.7%",
        "* average: 77.8%",
        f"Confusion matrix is saved to {tmp_path / 'cmat.pt'}",
    ]
    matrix = torch.load(tmp_path / "cmat.pt")
    assert torch.allclose(matrix, torch.tensor([[2, 1, 0], [0, 3, 0], [1, 0, 2]]).double() / 3)


def test_nothing_to_evaluate(cfg):
    evaluator = build_evaluator(cfg, lab2cname={})
    with pytest.raises(ValueError, match="nothing to evaluate"):
        evaluator.evaluate()


def test_unknown_evaluator(cfg):
    cfg.TEST.EVALUATOR = "Clasification"
    with pytest.raises(ValueError, match="Classification"):
        build_evaluator(cfg)


def test_the_best_two(cfg, capsys):
    cfg.TEST.TOP_K = 2
    evaluator = build_evaluator(cfg, lab2cname={0: "cat", 1: "dog", 2: "owl"})
    evaluator.process(torch.tensor([[3.0, 2, 1], [3, 2, 1], [3, 2, 1]]), torch.tensor([0, 1, 2]))
    evaluator.process(torch.tensor([[1.0, 2, 3]]), torch.tensor([1]))
    results = evaluator.evaluate()
    assert results["accuracy"] == 25
    assert results["top2_accuracy"] == 75
    assert evaluator.top_accuracy == {"top2_accuracy": 75}
    assert "* top2_accuracy: 75.0%\n" in capsys.readouterr().out


@pytest.mark.parametrize("k", [0, 4])
def test_more_best_classes_than_there_are(cfg, k):
    cfg.TEST.TOP_K = k
    with pytest.raises(ValueError, match=rf"^TEST\.TOP_K is {k}, 1 to 3, the number of classes, is needed$"):
        build_evaluator(cfg, lab2cname={0: "cat", 1: "dog", 2: "owl"})


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_logits_that_are_not_finite(cfg, value):
    evaluator = build_evaluator(cfg, lab2cname={0: "cat", 1: "dog"})
    evaluator.process(torch.tensor([[1.0, 2.0], [value, 0.0], [0.0, value]]), torch.tensor([0, 0, 1]))
    evaluator.process(torch.tensor([[1.0, float("-inf")]]), torch.tensor([0]))  # a class that is ruled out
    with pytest.raises(FloatingPointError, match=r"^the logits of 2 of 4 images are not finite numbers"):
        evaluator.evaluate()
    evaluator.reset()
    evaluator.process(torch.tensor([[1.0, 2.0]]), torch.tensor([1]))
    assert evaluator.evaluate()["accuracy"] == 100
