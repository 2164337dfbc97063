import pytest
from yacs.config import CfgNode

from runs.settings import merge_file, merge_pairs, nearest


@pytest.fixture
def cfg():
    return CfgNode(
        {
            "SEED": 1,
            "OPTIM": {"LR": 0.1, "MAX_EPOCH": 10, "STEPSIZE": (10,), "NAME": "sgd"},
            "TRAINER": {"COOP": {"N_CTX": 16, "CSC": False}, "COCOOP": {"N_CTX": 4}},
        }
    )


@pytest.fixture
def write(tmp_path):
    def write_config(text):
        path = tmp_path / "method.yaml"
        path.write_text(text)
        return str(path)

    return write_config


def test_a_file_and_then_pairs_are_merged(cfg, write):
    merge_file(cfg, write("OPTIM:\n  LR: 0.5\n  STEPSIZE: [3, 4]\nTRAINER:\n  COOP:\n    CSC: true\n"))
    merge_pairs(cfg, ["OPTIM.LR", "2", "OPTIM.NAME", "adam"])
    assert (cfg.OPTIM.LR, cfg.OPTIM.STEPSIZE, cfg.OPTIM.NAME) == (2.0, (3, 4), "adam")
    assert cfg.TRAINER.COOP.CSC is True


def test_an_empty_file_changes_nothing(cfg, write):
    before = cfg.clone()
    merge_file(cfg, write("# python train.py\n"))
    assert cfg == before


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [
        ("TRAINER.COOP.NCTX", "TRAINER.COOP.N_CTX"),
        ("OPTIM.MAX_EPOCHS", "OPTIM.MAX_EPOCH"),
        ("optim.lr", "OPTIM.LR"),
        ("MAX_EPOCH", "OPTIM.MAX_EPOCH"),
        ("SEEDS", "SEED"),
    ],
)
def test_an_unknown_key_names_the_nearest_and_its_origin(cfg, wrong, meant):
    with pytest.raises(ValueError, match=f"^command line: no config key {wrong}; the nearest is {meant}$"):
        merge_pairs(cfg, [wrong, "1"])


def test_an_unknown_key_in_a_file_names_the_file(cfg, write):
    path = write("OPTIM:\n  LRR: 1\n")
    with pytest.raises(ValueError, match=f"^{path}: no config key OPTIM.LRR; the nearest is OPTIM.LR$"):
        merge_file(cfg, path)


@pytest.mark.parametrize(
    ("key", "value", "type_name"),
    [
        ("OPTIM.LR", "fast", "float"),
        ("OPTIM.LR", "True", "float"),
        ("OPTIM.MAX_EPOCH", "1.5", "int"),
        ("OPTIM.STEPSIZE", "3", "tuple"),
    ],
)
def test_a_wrong_type_names_the_right_one(cfg, key, value, type_name):
    with pytest.raises(ValueError, match=f"^command line: {key} must be of type {type_name} "):
        merge_pairs(cfg, [key, value])


TEXTS = ["2", "20241127_153000", "1e3", "None", "True", "(1, 2)", "[a]", "0x10", "{}", "", "a photo of a"]


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_stays_what_was_typed(cfg, text):
    merge_pairs(cfg, ["OPTIM.NAME", text])
    assert text == cfg.OPTIM.NAME


@pytest.mark.parametrize("text", ["20241127_153000", "2024-11-27", "1e3", "007", "1.50", "12:30:00"])
def test_a_text_in_a_file_stays_what_was_written(cfg, write, text):
    merge_file(cfg, write(f"OPTIM:\n  NAME: {text}\n"))
    assert text == cfg.OPTIM.NAME


def test_quotes_around_a_text_are_not_part_of_it(cfg):
    merge_pairs(cfg, ["OPTIM.NAME", "'a photo of a'"])
    assert cfg.OPTIM.NAME == "a photo of a"


@pytest.mark.parametrize("key", ["OPTIM.LR", "OPTIM.MAX_EPOCH", "OPTIM.STEPSIZE", "TRAINER.COOP.CSC"])
@pytest.mark.parametrize("how", ["pair", "file"])
def test_nothing_is_no_value(cfg, write, key, how):
    section, _, last = key.rpartition(".")
    path = write(
        f"{section.split('.')[0]}: " + "{COOP: {CSC: null}}" if "COOP" in key else f"OPTIM: {{{last}: null}}"
    )
    with pytest.raises(ValueError, match=f"{key} must be of type "):
        merge_pairs(cfg, [key, "None"]) if how == "pair" else merge_file(cfg, path)


def test_a_list_is_no_text(cfg, write):
    with pytest.raises(ValueError, match=r"OPTIM\.NAME must be of type str \(now 'sgd'\), not \['a', 'b'\]$"):
        merge_file(cfg, write("OPTIM:\n  NAME: [a, b]\n"))


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        (["OPTIM.LR"], "OPTIM.LR has no value"),
        (
            ["OPTIM.LR", "1", "--seed", "2"],
            r"--seed must stand before the KEY VALUE pairs \(before OPTIM.LR\)",
        ),
        (["OPTIM.LR=0.1"], "OPTIM.LR=0.1 must be written without the equals sign: OPTIM.LR 0.1"),
        (["SEED", "2", "OPTIM.LR=0.1", "OPTIM.MAX_EPOCH=2"], "without the equals sign: OPTIM.LR 0.1"),
        (
            ["OPTIM.LR", "OPTIM.MAX_EPOCH", "5"],
            "OPTIM.LR has no value, the next word is the key OPTIM.MAX_EPOCH",
        ),
    ],
)
def test_pairs_that_are_no_pairs(cfg, pairs, message):
    with pytest.raises(ValueError, match=message):
        merge_pairs(cfg, pairs)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("OPTIM: [", "is not YAML"),
        ("- a\n- b\n", "expected sections of keys, found list"),
        ("OPTIM: 3\n", "no config key OPTIM; the nearest is OPTIM."),
        ("OPTIM:\n  LR:\n    X: 3\n", "no config key OPTIM.LR.X; the nearest is OPTIM.LR"),
    ],
)
def test_a_file_of_another_form(cfg, write, text, message):
    with pytest.raises(ValueError, match=message):
        merge_file(cfg, write(text))


def test_a_missing_file_names_the_nearest_of_its_folder(cfg, write, tmp_path):
    write("")
    for number in range(9):
        (tmp_path / f"{number}.yaml").write_text("")
    with pytest.raises(FileNotFoundError, match=rf"the nearest are {tmp_path}/method.yaml, ") as error:
        merge_file(cfg, str(tmp_path / "method2.yaml"))
    assert str(error.value).count(str(tmp_path)) == 4


def test_a_missing_file_of_a_missing_folder_names_few_that_are_shipped(cfg, tmp_path, root, monkeypatch):
    monkeypatch.chdir(root)
    with pytest.raises(
        FileNotFoundError, match=r"the nearest are configs/trainers/CoOp/mini\.yaml, "
    ) as error:
        merge_file(cfg, str(tmp_path / "trainers" / "CoOp" / "minni.yaml"))
    assert str(error.value).count(".yaml") == 4


def test_a_config_is_never_executed(cfg, tmp_path):
    (tmp_path / "config.py").write_text("raise SystemExit('executed')")
    with pytest.raises(ValueError, match=r"expected a \.yaml file"):
        merge_file(cfg, str(tmp_path / "config.py"))


def test_the_last_part_of_a_key_weighs_most():
    assert nearest("OPTIM.N_CTX", ["OPTIM.NAME", "TRAINER.COOP.N_CTX"]) == "TRAINER.COOP.N_CTX"
