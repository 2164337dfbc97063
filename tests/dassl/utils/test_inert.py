"""Files that try to run something when they are read. What they would do is create a file; none may."""

import collections
import contextlib
import functools
import io
import os
import pickle
import zipfile

import numpy as np
import pytest
import torch

from dassl.utils import inert, load_checkpoint


class ByReduce:
    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


class ByEval(ByReduce):
    def __reduce__(self):
        return eval, (f"__import__('os').system({self.command!r})",)


class ByBuild(ByReduce):
    """The call hides in the state that a setter of the object would be given."""

    def __reduce__(self):
        return torch.optim.SGD, (), {"hook": ByReduce(self.command)}


class BySetState:
    """A callable of the standard library that runs what its state says."""

    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return functools.partial, (print,), (os.system, (self.command,), {}, None)


class ByItems(ByReduce):
    def __reduce__(self):
        return collections.OrderedDict, (), None, None, iter([("key", [ByEval(self.command)])])


@pytest.fixture(params=[ByReduce, ByEval, ByBuild, BySetState, ByItems])
def attack(request, tmp_path):
    mark = tmp_path / "executed"
    yield request.param(f"echo > {mark}")
    assert not mark.exists()


def test_the_attacks_work_on_pickle(tmp_path):
    pickle.loads(pickle.dumps(ByReduce(f"echo > {tmp_path / 'mark'}"), protocol=2))
    assert (tmp_path / "mark").exists()


@pytest.mark.parametrize("legacy", [False, True])
def test_checkpoints_execute_nothing(attack, tmp_path, legacy):
    path = tmp_path / "model.pth.tar-1"
    state = {"state_dict": {"w": torch.ones(2)}, "epoch": 3, "evil": attack}
    torch.save(state, path, _use_new_zipfile_serialization=not legacy)
    assert zipfile.is_zipfile(path) != legacy
    loaded = load_checkpoint(path)
    assert loaded["epoch"] == 3
    assert torch.equal(loaded["state_dict"]["w"], torch.ones(2))


@pytest.mark.parametrize("protocol", range(6))
def test_plain_pickles_execute_nothing(attack, protocol):
    assert inert.load(io.BytesIO(pickle.dumps({"a": 1, "evil": attack}, protocol)))["a"] == 1


def test_a_pickled_file_that_is_no_checkpoint_executes_nothing(attack, tmp_path):
    path = tmp_path / "split.pkl"
    path.write_bytes(pickle.dumps(attack))
    with pytest.raises(ValueError, match=r"split\.pkl"):
        load_checkpoint(path)


@pytest.mark.filterwarnings("ignore:.*deprecated:FutureWarning")
def test_torchscript_archives_are_refused(tmp_path):
    class Writes(torch.nn.Module):
        def forward(self, x):
            return x

    path = tmp_path / "model.pt"
    torch.jit.save(torch.jit.script(Writes()), path)
    with pytest.raises(ValueError, match=r"model\.pt"):
        load_checkpoint(path)


def test_a_file_cannot_change_the_process():
    """Setting attributes on what a name stands for: GLOBAL, a state of (None, {name: value}), BUILD."""
    names = [*inert._FUNCTIONS, *inert._TYPES, *(("builtins", name) for name in inert._BUILTINS)]
    before = {function: dict(vars(function)) for function in inert._FUNCTIONS.values()}
    defaults = {function: function.__defaults__ for function in before}
    for module, name in [*names, ("os", "system"), ("torch.optim.sgd", "SGD")]:
        build = b"\x80\x02" + f"c{module}\n{name}\n".encode() + b"N}X\x0c\x00\x00\x00__defaults__)s\x86b."
        with contextlib.suppress(TypeError, AttributeError, pickle.UnpicklingError):
            inert.load(io.BytesIO(build))
    assert {function: dict(vars(function)) for function in before} == before
    assert {function: function.__defaults__ for function in defaults} == defaults
    assert torch.optim.SGD.__module__ == "torch.optim.sgd"
    assert not hasattr(torch.optim.SGD, "__defaults__")


def test_numbers_and_containers_come_back_as_they_are():
    plain = {
        "numpy": np.float64(1.5),
        "int": np.int64(-3),
        "ordered": collections.OrderedDict(a=(1, 2.5, None)),
        "default": collections.defaultdict(dict, {"k": {"v": 1}}),
        "set": {1, 2},
        "bytes": b"\x00\xff",
        "size": torch.Size([1, 2]),
        "dtype": torch.float16,
    }
    for protocol in (2, 4):
        loaded = inert.load(io.BytesIO(pickle.dumps(plain, protocol)))
        assert loaded == plain
        assert {key: type(value) for key, value in loaded.items()} == {k: type(v) for k, v in plain.items()}


@pytest.mark.parametrize("protocol", range(2, 6))
def test_arrays_of_numbers_come_back(protocol):
    arrays = {
        "centres": np.arange(6.0).reshape(2, 3),
        "columns": np.asfortranarray(np.arange(6, dtype=np.int16).reshape(2, 3)),
        "big endian": np.arange(3, dtype=">f4"),
        "flags": np.array([True, False]),
        "none": np.zeros((0, 4), dtype=np.float16),
        "type": np.dtype("<f4"),
    }
    whole = {**arrays, "nested": [({"again": arrays["centres"]},)]}
    loaded = inert.load(io.BytesIO(pickle.dumps(whole, protocol)))
    assert loaded.pop("type") == arrays.pop("type")
    assert loaded.pop("nested")[0][0]["again"] is loaded["centres"]
    for name, array in arrays.items():
        assert type(loaded[name]) is np.ndarray
        assert loaded[name].dtype == array.dtype
        assert loaded[name].flags.writeable
        np.testing.assert_array_equal(loaded[name], array)


def test_arrays_in_a_checkpoint_come_back(tmp_path):
    torch.save({"epoch": 1, "prototypes": np.eye(2, dtype=np.float32)}, tmp_path / "file")
    np.testing.assert_array_equal(load_checkpoint(tmp_path / "file")["prototypes"], np.eye(2))


@pytest.mark.parametrize("protocol", range(2, 6))
def test_arrays_of_objects_stay_inert(attack, protocol):
    holds = {"array": np.array([attack, 1], dtype=object), "record": np.zeros(1, dtype=[("a", "O")])}
    loaded = inert.load(io.BytesIO(pickle.dumps(holds, protocol)))
    assert isinstance(loaded["array"], inert.Inert)
    assert isinstance(loaded["record"], inert.Inert)


def test_a_type_that_lies_about_its_objects_reads_no_memory():
    """A numpy.dtype of objects whose state says that its bytes are plain would read them as addresses."""

    class Lies:
        def __reduce__(self):
            return np.dtype, ("O8", False, True), (3, "|", None, None, None, -1, -1, 0)

    class Holds:
        def __reduce__(self):
            return type(np.float64(1))(1).__reduce__()[0], (Lies(), b"A" * 8)

    assert isinstance(inert.load(io.BytesIO(pickle.dumps(Holds(), 4))), inert.Inert)


def test_a_live_optimiser_becomes_an_inert_object(tmp_path):
    weight = torch.nn.Parameter(torch.ones(2))
    optimizer = torch.optim.SGD([weight], lr=0.1, momentum=0.9)
    weight.sum().backward()
    optimizer.step()
    torch.save({"optimizer": optimizer, "weight": weight}, tmp_path / "live")
    loaded = load_checkpoint(tmp_path / "live")
    assert isinstance(loaded["optimizer"], inert.Inert)
    assert repr(loaded["optimizer"]) == "<torch.optim.sgd.SGD, not rebuilt>"
    assert loaded["optimizer"].state["param_groups"][0]["lr"] == 0.1
    assert torch.equal(loaded["weight"], weight)
    assert loaded["weight"].requires_grad
