"""Names of pictures: safe on every file system, and never two for one file."""

import unicodedata
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from whycam.store.names import PictureNames, safe_name

NASTY = st.lists(
    st.sampled_from(
        ["..", ".", "/", "\\", "a", "A", "é", "e\u0301", "rows", "con", ".png", " ", "\x00", "\udc80", "ß"]
    )
    | st.text(st.characters(), max_size=3),
    max_size=8,
).map("".join)
LONG = st.builds(lambda part, times, end: part * times + end, NASTY, st.integers(1, 600), NASTY)


def place(name: str) -> str:
    """What a file system without case and accents' spelling takes a name for."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


@given(NASTY | LONG)
@example("../../etc/passwd")
@example("/etc/passwd")
@example("a/../../b.png")
@example("..\\..\\x.png")
@example("C:\\x.png")
@example("a/" * 3000 + "b.png")
@example("猫" * 100 + ".png")
@example("x" * 250 + "." + "y" * 250)
@example("x" + "." * 300 + "/y")
def test_a_safe_name_stays_in_the_folder_and_is_valid_everywhere(requested: str) -> None:
    name = safe_name(requested)
    assert len(name.encode("utf-8", "strict")) <= 1000
    for part in name.split("/"):
        assert part not in ("", ".", "..")
        assert len(part.encode()) <= 255
        assert not set(part) & set('<>:"|?*\\')
        assert all(unicodedata.category(letter) not in ("Cc", "Cs") for letter in part)
        assert not part.startswith(".")
        assert not part.endswith((".", " "))
        assert part.split(".")[0].rstrip().lower() not in ("con", "nul", "aux", "prn", "com1", "lpt1")
    assert name.split("/")[0].lower() not in ("manifest.json", "explanations.parquet", "rows")


@pytest.mark.parametrize(
    "name", ["overlays/cats/1-gradcam.png", "sheet.png", "overlays/猫 1.png", "a.b/c", "é.png"]
)
def test_a_name_that_is_safe_stays(name: str) -> None:
    assert safe_name(name) == name


def test_a_changed_name_keeps_what_it_can_and_its_suffix() -> None:
    name = safe_name("overlays/what?.png")
    assert name.startswith("overlays/what_-")
    assert name.endswith(".png")
    long = safe_name("overlays/" + "x" * 300 + ".png")
    assert long.startswith("overlays/xxx")
    assert long.endswith(".png")
    assert len(long.split("/")[1]) == 255


@given(st.lists(NASTY | LONG, max_size=6, unique=True))
@example(["a?.png", "a*.png", "a_.png"])
@example(["A.png", "a.png", "\u00e9.png", "e\u0301.png", "E\u0301.png"])
@example(["x" * 300 + "1", "x" * 300 + "2"])
@example(["x.png", "x.png/y.png"])
@example(["d/x.png/y.png", "d/x.png", "D/X.PNG"])
@example(["../x", "x", "./x", "/x"])
def test_two_pictures_never_share_a_file_nor_a_file_with_a_folder(requests: list[str]) -> None:
    names = PictureNames()
    places = [place(names.claim(request)) for request in requests]
    assert len(set(places)) == len(places)
    for one in places:
        assert not any(other.startswith(one + "/") for other in places)


@given(st.lists(NASTY, max_size=6))
def test_the_same_request_gets_the_same_name_each_time(requests: list[str]) -> None:
    names = PictureNames()
    first = [names.claim(request) for request in requests]
    assert [names.claim(request) for request in requests] == first


@given(st.lists(NASTY, max_size=5, unique=True), st.lists(NASTY, max_size=5, unique=True))
def test_a_resumed_run_does_not_give_an_earlier_pictures_name_to_another(
    old: list[str], new: list[str]
) -> None:
    names = PictureNames()
    taken = {place(name): request for request in old for name in [names.claim(request)]}
    resumed = PictureNames([names.claim(request) for request in old])
    for request in new:
        name = place(resumed.claim(request))
        assert taken.get(name, request) == request
        assert not any(name.startswith(f"{other}/") or other.startswith(f"{name}/") for other in taken)


def test_claims_from_several_threads_stay_apart() -> None:
    names = PictureNames()
    requests = [f"overlays/{'aA'[turn % 2]}{turn // 2}.png" for turn in range(400)]
    with ThreadPoolExecutor(8) as pool:
        given_names = list(pool.map(names.claim, requests))
    assert len({place(name) for name in given_names}) == len(requests)
