"""Who made the photographs and the digits, and under which licence they may be passed on."""

from collections.abc import Sequence

from whycam.testbeds.scenes import PHOTOGRAPHS

_CREDITS = """{changes}

## Photographs

| photograph | author | licence | taken from the package | {column} |
| --- | --- | --- | --- | --- |
{rows}

The licences are as stated by scikit-image, in the documentation of `skimage.data`, and by scikit-learn, in
`sklearn/datasets/images/README.txt`.

## Digits

[Optical Recognition of Handwritten Digits](https://archive.ics.uci.edu/dataset/80) by E. Alpaydin and
C. Kaynak (1998), UCI Machine Learning Repository, doi
[10.24432/C50P49](https://doi.org/10.24432/C50P49), licence
[CC BY 4.0](https://creativecommons.org/licenses/by/4.0/); taken from scikit-learn's `load_digits`, a copy of
the data set's test part.
"""
_CHANGES = (
    "What was changed: the photographs were cropped, gray ones turned into\nRGB, the retina shrunk to a "
    "third; the digits were enlarged smoothly, turned, coloured and laid on the crops."
)


def credits(intro: str, column: str, used: Sequence[str]) -> str:
    """Credit every photograph and the digits, in Markdown.

    ``intro`` says what the images and masks are; ``column`` heads what ``used`` says of each photograph, in
    the order of `PHOTOGRAPHS`.
    """
    rows = [
        f"| [{one.title}]({one.source}) | {one.author} | [{one.licence.name}]({one.licence.url}) "
        f"| {one.package} | {where} |"
        for one, where in zip(PHOTOGRAPHS, used, strict=True)
    ]
    return _CREDITS.format(changes=f"{intro} {_CHANGES}", column=column, rows="\n".join(rows))
