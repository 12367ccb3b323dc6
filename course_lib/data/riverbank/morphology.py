# ruff: noqa: SIM905  (lists of words read best as text)
"""English inflection for the words of the town: plurals, verb forms, degrees of adjectives."""

from __future__ import annotations

VOWELS = "aeiou"

_PLURALS = {
    "man": "men", "woman": "women", "child": "children", "goose": "geese", "wolf": "wolves",
    "calf": "calves", "sheep": "sheep", "wife": "wives", "fisherman": "fishermen", "loaf": "loaves",
    "leaf": "leaves", "shelf": "shelves", "thief": "thieves", "knife": "knives", "scarf": "scarves",
    "larva": "larvae", "trout": "trout", "salmon": "salmon", "deer": "deer", "tomato": "tomatoes",
    "potato": "potatoes", "hero": "heroes", "roof": "roofs", "half": "halves", "foot": "feet",
    "policeman": "policemen", "cliff": "cliffs", "piano": "pianos", "mouse": "mice",
}  # fmt: skip

# base: (past, -ing or None for the regular one)
_IRREGULAR = {
    "break": ("broke", None), "choose": ("chose", None), "leave": ("left", None),
    "speak": ("spoke", None), "sell": ("sold", None), "stand": ("stood", None),
    "take": ("took", None), "spend": ("spent", None), "bear": ("bore", None),
    "be": ("was", "being"), "have": ("had", None), "do": ("did", None), "say": ("said", None),
    "think": ("thought", None), "know": ("knew", None), "sit": ("sat", "sitting"),
    "wear": ("wore", None), "ride": ("rode", None), "build": ("built", None),
    "buy": ("bought", None), "bring": ("brought", None), "tell": ("told", None),
    "sleep": ("slept", None), "lend": ("lent", None), "write": ("wrote", None),
    "read": ("read", None), "sing": ("sang", None), "throw": ("threw", None),
    "win": ("won", "winning"), "fly": ("flew", None), "draw": ("drew", None),
    "feed": ("fed", None), "catch": ("caught", None), "swim": ("swam", "swimming"),
    "cast": ("cast", None), "ring": ("rang", None), "fight": ("fought", None),
    "swing": ("swung", None), "strike": ("struck", None), "light": ("lit", None),
    "eat": ("ate", None), "drink": ("drank", None), "hide": ("hid", None), "cut": ("cut", "cutting"),
    "see": ("saw", None), "find": ("found", None), "lose": ("lost", None), "meet": ("met", None),
    "grow": ("grew", None), "grind": ("ground", None), "teach": ("taught", None),
    "keep": ("kept", None), "go": ("went", None), "come": ("came", None), "dig": ("dug", "digging"),
    "give": ("gave", None), "make": ("made", None), "hold": ("held", None), "hear": ("heard", None),
    "pay": ("paid", None), "sweep": ("swept", None), "shine": ("shone", None),
    "saw": ("sawed", None), "let": ("let", "letting"), "fall": ("fell", None), "rise": ("rose", None),
}  # fmt: skip

_DOUBLING = frozenset(
    "chop trim rub drop wrap unwrap hum hug pat beg knit hop stir pin mop grab plan scrub wag spot".split()
)
_IRREGULAR_DEGREES = {"good": ("better", "best"), "bad": ("worse", "worst")}
_DOUBLING_ADJECTIVES = frozenset("big hot thin sad wet fat".split())


def plural(noun: str) -> str:
    """The plural of a singular noun."""
    if noun in _PLURALS:
        return _PLURALS[noun]
    if noun.endswith(("s", "x", "z", "ch", "sh")):
        return noun + "es"
    if noun.endswith("y") and noun[-2] not in VOWELS:
        return noun[:-1] + "ies"
    return noun + "s"


def third_person(verb: str) -> str:
    """The third person singular present of a base form."""
    if verb in ("be", "have"):
        return {"be": "is", "have": "has"}[verb]
    if verb.endswith(("s", "x", "z", "ch", "sh", "o")):
        return verb + "es"
    if verb.endswith("y") and verb[-2] not in VOWELS:
        return verb[:-1] + "ies"
    return verb + "s"


def past(verb: str) -> str:
    """The simple past of a base form."""
    if verb in _IRREGULAR:
        return _IRREGULAR[verb][0]
    if verb.endswith("e"):
        return verb + "d"
    if verb.endswith("y") and verb[-2] not in VOWELS:
        return verb[:-1] + "ied"
    return (verb + verb[-1] if verb in _DOUBLING else verb) + "ed"


def present_participle(verb: str) -> str:
    """The -ing form of a base form."""
    irregular = _IRREGULAR.get(verb, ("", None))[1]
    if irregular:
        return irregular
    if verb.endswith("e") and not verb.endswith("ee"):
        return verb[:-1] + "ing"
    return (verb + verb[-1] if verb in _DOUBLING else verb) + "ing"


def degrees(adjective: str) -> tuple[str, str]:
    """Comparative and superlative of a short adjective."""
    if adjective in _IRREGULAR_DEGREES:
        return _IRREGULAR_DEGREES[adjective]
    stem = adjective
    if adjective in _DOUBLING_ADJECTIVES:
        stem = adjective + adjective[-1]
    elif adjective.endswith("y"):
        stem = adjective[:-1] + "i"
    elif adjective.endswith("e"):
        stem = adjective[:-1]
    return stem + "er", stem + "est"
