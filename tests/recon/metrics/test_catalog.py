"""Names of metrics are read, unknown ones are refused, and weights are never needed by default."""

import pytest

from recon.errors import BackendError, InputError
from recon.metrics.catalog import METRICS, default_names, has_flip, parse_names
from recon.metrics.opening import open_metrics


def test_names_are_split_each_once():
    assert parse_names("psnr, LPIPS,psnr,") == ("psnr", "lpips")


@pytest.mark.parametrize("text", ["psnr,msssim", "", " , "])
def test_unknown_names_and_none_are_refused(text):
    with pytest.raises(InputError, match="expected metrics among psnr"):
        parse_names(text)


def test_the_defaults_need_no_weights():
    assert not any(METRICS[name].weights for name in default_names())
    assert [metric.name for metric in open_metrics(default_names())] == list(default_names())


def test_metrics_with_weights_are_not_opened_here():
    with pytest.raises(InputError, match="lpips needs a network"):
        open_metrics(["lpips"])


@pytest.mark.skipif(has_flip(), reason="flip-evaluator is installed")
def test_flip_without_its_package_is_refused():
    with pytest.raises(BackendError, match="flip-evaluator"):
        open_metrics(["flip"])
