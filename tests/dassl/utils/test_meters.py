import pytest
import torch

from dassl.utils import AverageMeter, MetricMeter


def test_average_is_weighted():
    meter = AverageMeter()
    meter.update(1.0, n=3)
    meter.update(torch.tensor(5.0))
    assert (meter.val, meter.avg, meter.sum, meter.count) == (5.0, 2.0, 8.0, 4)


def test_exponential_average():
    meter = AverageMeter(ema=True)
    meter.update(10.0)
    meter.update(20.0)
    assert meter.avg == pytest.approx(0.9 * 1.0 + 0.1 * 20)


def test_metrics_print_value_and_average():
    metrics = MetricMeter()
    metrics.update({"loss": torch.tensor(1.0), "acc": 50.0})
    metrics.update({"loss": 2.0, "acc": 100.0})
    metrics.update(None)
    assert str(metrics) == "loss 2.0000 (1.5000) acc 100.0000 (75.0000)"
    with pytest.raises(TypeError):
        metrics.update([1.0])
