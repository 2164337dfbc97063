"""ProGrad's release: its keys, and the context that starts from a template."""

import pytest
import torch

from clip import encode

RELEASED = ("TRAINER.COOP.CTX_INIT", "'True'", "TRAINER.COOP.N_CTX", 16)


def test_a_context_starts_from_the_template_at_its_end_and_zeros(make):
    model = make("ProGrad", *RELEASED).model
    context = model.context.ctx.detach()
    words = encode(make("ProGrad").dm.dataset.template.replace(" {}.", ""))
    assert context.shape[0] == 16
    assert not context[: 16 - len(words)].any()
    torch.testing.assert_close(context[16 - len(words) :], model.clip.text.embed(words).float())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            ("TRAINER.COOP.CTX_INIT", "'True'", "TRAINER.COOP.N_CTX", 2),
            "N_CTX is 2, the template has . words in front",
        ),
        (("LOSS.NAME", "kd"), "LOSS.NAME is 'kd', choose from: prograd"),
    ],
)
def test_what_the_release_has_and_this_has_not_is_refused(make, options, said):
    with pytest.raises(ValueError, match=said):
        make("ProGrad", *options)


def test_the_release_s_keys_are_known(make):
    released = ("LOSS.GM", False, "LOSS.ALPHA", 0.0, "LOSS.T", 1.0, "TRAINER.COOP.ALPHA", 1.0)
    context = make("ProGrad", *released, "TRAINER.COOP.CTX_INIT", "'False'").model.context.ctx
    assert context.shape[0] == 16
    assert context.detach().std() == pytest.approx(0.02, rel=0.1)
