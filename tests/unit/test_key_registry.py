"""Encoders of a user's own classes."""

from __future__ import annotations

import enum
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest

from alamo.core import keys
from alamo.core.keys import decode, encode, is_plain, register_key_encoder

Pair = namedtuple("Pair", "x y")


class Word(enum.StrEnum):
    A = "a"


class OwnEqTuple(tuple[Any, ...]):
    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return id(self)


class NoHash:  # noqa: PLW1641
    def __eq__(self, other: object) -> bool:
        return True


class Site:
    def __init__(self, name: Any) -> None:
        self.name = name

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Site) and self.name == other.name

    def __hash__(self) -> int:
        return hash(self.name)


class SubSite(Site):
    pass


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Registrations of a test go with it."""
    for name in ("_ENCODERS", "_PLAIN_IF", "_registered_decoders", "_registered"):
        monkeypatch.setattr(keys, name, getattr(keys, name).copy())


@pytest.mark.usefixtures("registry")
class TestRegistered:
    def test_without_decode(self) -> None:
        register_key_encoder(Site, lambda site: site.name)
        assert encode(Site("a")) == encode(Site("a"))
        assert len({encode(key) for key in (Site("a"), Site("b"), Site(("a",)), "a", ("a",))}) == 5
        assert not is_plain(Site("a"))
        with pytest.raises(
            ValueError, match=r"test_key_registry\.Site.*register_key_encoder.*decode="
        ):
            decode(encode(Site("a")))

    def test_with_decode(self) -> None:
        register_key_encoder(Site, lambda site: site.name, Site)
        back = decode(encode((Site("a"), 1)))
        assert type(back[0]) is Site
        assert back == (Site("a"), 1)
        assert is_plain(Site("a"))
        assert not is_plain(Site(True))  # would come back as Site(1)

    def test_a_later_call_replaces(self) -> None:
        register_key_encoder(Site, lambda site: site.name, Site)
        register_key_encoder(Site, lambda site: (site.name,))
        assert not is_plain(Site("a"))

    def test_it_holds_for_no_subclass(self) -> None:
        register_key_encoder(Site, lambda site: site.name)
        with pytest.raises(TypeError, match="SubSite cannot be a key"):
            encode(SubSite("a"))

    def test_a_class_of_its_own_equality(self) -> None:
        register_key_encoder(OwnEqTuple, id)
        key = OwnEqTuple((1,))
        assert encode(key) == encode(key) != encode(OwnEqTuple((1,)))

    def test_the_way_to_what_is_refused(self) -> None:
        register_key_encoder(Site, lambda site: (0, site.name))
        with pytest.raises(TypeError, match=r"\(it is at key\[0\], as encoded\[1\]\)"):
            encode((Site(object()),))

    def test_an_encoder_in_circles(self) -> None:
        register_key_encoder(Site, lambda site: site)
        with pytest.raises(RecursionError, match="must not"):
            encode(Site("a"))

    def test_an_error_of_the_encoder_is_its_own(self) -> None:
        register_key_encoder(Site, lambda site: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            encode((Site("a"),))

    @pytest.mark.parametrize("cls", [int, str, tuple, Pair, Word, type(Path())])
    def test_what_has_an_encoding_keeps_it(self, cls: type) -> None:
        with pytest.raises(TypeError, match="have an encoding already"):
            register_key_encoder(cls, repr)

    def test_wrong_use(self) -> None:
        with pytest.raises(TypeError, match="needs a class"):
            register_key_encoder(Site("a"), repr)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="unhashable type: 'NoHash'"):
            register_key_encoder(NoHash, repr)
        with pytest.raises(TypeError, match="functions of one argument"):
            register_key_encoder(Site, "name")  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="functions of one argument"):
            register_key_encoder(Site, repr, 1)  # type: ignore[arg-type]
