"""Images reach the image tower as they did in the training of its weights, or the run is refused."""

from types import SimpleNamespace

import pytest

from clip.catalogue import Preprocess
from runs.command_line import make_parser
from runs.schema import setup_cfg
from trainers.preprocessing import check_preprocessing

OPENAI = ["INPUT.PIXEL_MEAN", "[0.48145466, 0.4578275, 0.40821073]"]
OPENAI += ["INPUT.PIXEL_STD", "[0.26862954, 0.26130258, 0.27577711]"]
OPENAI += ["INPUT.TRANSFORMS", "('normalize',)", "INPUT.INTERPOLATION", "bicubic"]


def check(trained, *settings):
    cfg = setup_cfg(make_parser().parse_args([*OPENAI, *map(str, settings)]))
    check_preprocessing(cfg, SimpleNamespace(name="its-model", preprocess=trained))


def test_what_coops_configs_say_fits_openais_weights(capsys):
    check(Preprocess())
    check(Preprocess(), "INPUT.PIXEL_MEAN", "[0.4815, 0.4578, 0.4082]")
    assert capsys.readouterr().out == ""


WRONG = {
    "Dassl's default": (Preprocess(), ["INPUT.PIXEL_MEAN", "[0.485, 0.456, 0.406]"]),
    "another deviation": (Preprocess(), ["INPUT.PIXEL_STD", "[0.5, 0.5, 0.5]"]),
    "not normalised at all": (Preprocess(), ["INPUT.TRANSFORMS", "('random_flip',)"]),
    "LAION's 0.5": (Preprocess((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)), []),
    "MobileCLIP's 0 and 1": (Preprocess((0.0, 0.0, 0.0), (1.0, 1.0, 1.0), "bilinear"), []),
}


@pytest.mark.parametrize("case", WRONG)
def test_another_normalisation_names_both_and_what_to_set(case, tmp_path):
    trained, settings = WRONG[case]
    with pytest.raises(ValueError, match="the weights of its-model were trained with") as error:
        check(trained, *settings)
    message = str(error.value)
    assert "\n" not in message
    # what the message says to set is right
    words = message.partition(": set ")[2].partition(", with")[0].replace('"', "").split(" INPUT")
    pairs = [part.replace("INPUT.", ".", 1).split(" ", 1) for part in words]
    fixed = [word for key, value in pairs for word in (f"INPUT{key}", value)]
    transforms = ["INPUT.TRANSFORMS", "('random_flip', 'normalize')"]
    check(trained, *settings, *fixed, *(transforms if 'with "normalize"' in message else []))


def test_images_as_mobileclip_takes_them_need_no_normalisation():
    check(Preprocess((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)), "INPUT.TRANSFORMS", "()")


def test_squashed_images_are_asked_for():
    with pytest.raises(ValueError, match=r"with squash: set INPUT\.RESIZE_MODE squash$"):
        check(Preprocess(resize_mode="squash"))
    check(Preprocess(resize_mode="squash"), "INPUT.RESIZE_MODE", "squash")
    with pytest.raises(ValueError, match=r"set INPUT\.RESIZE_MODE shortest$"):
        check(Preprocess(), "INPUT.RESIZE_MODE", "squash")


def test_another_interpolation_is_said(capsys):
    check(Preprocess(interpolation="bilinear"))
    assert (
        "INPUT.INTERPOLATION is bicubic, the weights of its-model were trained with bilinear"
        in capsys.readouterr().out
    )


def test_what_is_not_known_is_said(capsys):
    check(None, "INPUT.PIXEL_MEAN", "[0.1, 0.2, 0.3]")
    assert "is not known" in capsys.readouterr().out


def test_the_bundled_model_says_its_activation(make, capsys):
    with pytest.raises(ValueError, match="the weights of mini were trained with"):
        make("CoOp", "INPUT.PIXEL_MEAN", (0.5, 0.5, 0.5))
