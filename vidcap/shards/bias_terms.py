"""Words in captions that name an age, a gender or a race, and how to count them: a look at what a corpus speaks of.

Counted by whole word, whatever the case. Only explicit words count: "woman" says nothing of age here, and a colour is a
race only before a word for a person ("a black man", never "a black car"). The lists are English, like the captions.
"""

from __future__ import annotations

import re
from collections import Counter
from functools import cache

_MALE = "man men boy boys guy guys gentleman gentlemen male males"
_FEMALE = "woman women girl girls lady ladies female females"
_PERSON = f"{_MALE} {_FEMALE} person persons people child children kid kids adult adults teenager teenagers".split()


def _of_person(adjectives: str) -> tuple[str, ...]:
    return tuple(f"{adjective} {person}" for adjective in adjectives.split() for person in _PERSON)


TERMS: dict[str, dict[str, tuple[str, ...]]] = {
    "age": {
        "children": (
            *"baby babies infant infants newborn newborns toddler toddlers child children childhood kid kids".split(),
            *"boy boys girl girls schoolboy schoolboys schoolgirl schoolgirls preschooler preschoolers".split(),
        ),
        "young people": (
            *"teen teens teenage teenaged teenager teenagers adolescent adolescents youth youths".split(),
            *"youngster youngsters".split(),
            *_of_person("young younger"),
        ),
        "adults": tuple("adult adults grownup grownups grown-up grown-ups middle-aged".split()),
        "older people": (
            *"elderly elder elders senior seniors pensioner pensioners retiree retirees".split(),
            *"grandmother grandmothers grandfather grandfathers grandma grandpa granny".split(),
            *_of_person("old older aged"),
        ),
    },
    "gender": {
        "female": (
            *_FEMALE.split(),
            *"she her hers herself mother mothers mom mum daughter daughters sister sisters wife wives".split(),
            *"grandmother grandmothers grandma aunt aunts bride brides actress actresses businesswoman mrs".split(),
        ),
        "male": (
            *_MALE.split(),
            *"he him his himself father fathers dad son sons brother brothers husband".split(),
            *"husbands grandfather grandfathers grandpa uncle uncles groom grooms actor actors businessman mr".split(),
        ),
        "non-binary": (
            *"nonbinary non-binary genderqueer genderfluid transgender androgynous intersex".split(),
            "gender nonconforming",
        ),
    },
    "race": {
        "Asian": (
            *"asian asians".split(),
            *_of_person("chinese japanese korean indian vietnamese thai filipino"),
        ),
        "Black": (
            *"african africans african-american african-americans afro-american".split(),
            *_of_person("black"),
        ),
        "Hispanic or Latino": (
            *"hispanic hispanics latino latinos latina latinas latinx chicano chicana".split(),
            *_of_person("mexican"),
        ),
        "Indigenous": (
            *"indigenous aboriginal aboriginals inuit maori".split(),
            "native american",
            "native americans",
            "first nations",
            "pacific islander",
            "pacific islanders",
        ),
        "Middle Eastern": (*"arab arabs middle-eastern".split(), *_of_person("persian turkish")),
        "White": (*"caucasian caucasians".split(), *_of_person("white european")),
    },
}
"""Axis → group → terms, in lower case; a hyphen and a blank are the same. A word may count on two axes ("boy")."""


def _plain(text: str) -> str:
    return " ".join(text.lower().replace("-", " ").split())


_GROUP_OF = {
    axis: {_plain(term): group for group, terms in groups.items() for term in terms} for axis, groups in TERMS.items()
}


@cache
def _patterns() -> dict[str, re.Pattern[str]]:
    """Axis → what finds its terms. Compiled when first asked for: that takes longer than many an import."""
    return {
        axis: re.compile(rf"(?<!\w)(?:{'|'.join(sorted(map(re.escape, terms), key=len, reverse=True))})(?!\w)")
        for axis, terms in _GROUP_OF.items()
    }


def found_terms(text: str) -> Counter[tuple[str, str, str]]:
    """(axis, group, term) → how often it stands in the text. "old woman" is one term of age and one of gender."""
    plain = _plain(text)
    found: Counter[tuple[str, str, str]] = Counter()
    for axis, pattern in _patterns().items():
        for term in pattern.findall(plain):
            found[axis, _GROUP_OF[axis][term], term] += 1
    return found
