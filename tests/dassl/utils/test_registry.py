import pytest

from dassl.utils import Registry, check_availability


def test_registers_as_decorator_and_as_call():
    registry = Registry("SHAPE")

    @registry.register()
    class Circle:
        pass

    class Square:
        pass

    registry.register(Square)
    assert registry.get("Circle") is Circle
    assert registry.get("Square") is Square
    assert registry.registered_names() == ["Circle", "Square"]


def test_a_name_is_taken_once_unless_forced():
    registry = Registry("SHAPE")
    registry.register(int)
    with pytest.raises(KeyError, match="already registered"):
        registry.register(int)
    registry.register(int, force=True)


def test_an_unknown_name_is_one_plain_line_that_lists_the_others():
    registry = Registry("SHAPE")
    registry.register(int)
    registry.register(float)
    with pytest.raises(KeyError) as caught:
        registry.get("Cirkle")
    assert isinstance(caught.value, ValueError)
    assert str(caught.value) == '"Cirkle" does not exist in "SHAPE" registry (available: float, int)'


def test_availability_names_the_nearest():
    check_availability("CoOp", ["CoOp"])
    with pytest.raises(
        ValueError, match=r"\['CoOp', 'ZeroshotCLIP'\], but got \[COOP\] \(do you mean \[CoOp\]\?\)"
    ):
        check_availability("COOP", ["CoOp", "ZeroshotCLIP"])
    with pytest.raises(ValueError, match="None"):
        check_availability("CoOp", [])
