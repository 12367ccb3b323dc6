"""The town's lexicon: every word with its senses, inflections, semantic attributes and relations."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from course_lib.data.riverbank import morphology
from course_lib.data.riverbank import wordlists as tables
from course_lib.data.riverbank.pcfg import Word

MASCULINE, FEMININE, NEUTER, PLURAL = "m", "f", "n", "p"
_GENDERS = {"m": "Masc", "f": "Fem", "n": "Neut"}


@dataclass(frozen=True)
class GenderPair:
    """Two nouns that differ in gender alone, the theme they live in and what they share."""

    masculine: str
    feminine: str
    theme: str
    attributes: tuple[str, ...]

    def noun(self, agreement: str) -> tuple[str, ...]:
        """The nouns (singular spec) for an agreement class: m, f, or p for both."""
        return {"m": (self.masculine,), "f": (self.feminine,)}.get(
            agreement, (self.masculine, self.feminine)
        )


@dataclass(frozen=True)
class VerbFrame:
    """A verb in one context: its key, what it is done to (noun specs), where (preposition, spec)."""

    key: str
    objects: tuple[str, ...]
    places: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Theme:
    """A scene of town life: the topic it belongs to and its verbs."""

    name: str
    topic: str
    verbs: tuple[str, ...]


@dataclass(frozen=True)
class Animal:
    """An animal with its young, the sound it makes, where it lives and what it eats."""

    adult: str
    young: str
    sound: str
    home: str
    food: str


@dataclass(frozen=True)
class Profession:
    """A profession: its workplace, its verb and objects, and the share of women (a planted bias)."""

    name: str
    workplace: str
    verb: str
    objects: tuple[str, ...]
    women: float


@dataclass(frozen=True)
class Country:
    """A country with its capital, the adjective of its people and what its ships bring."""

    name: str
    capital: str
    nationality: str
    product: str


@dataclass(frozen=True)
class Adjective:
    """A gradable adjective: its opposite, what it is said of, and what makes things so."""

    key: str
    opposite: str
    things: tuple[str, ...]
    causes: tuple[str, ...]


def lemma_of(spec: str) -> str:
    """The bare lemma of a spec: "bank@river" and "sleep#dog" give "bank" and "sleep"."""
    return spec.split("@")[0].split("#")[0]


def sense_of(spec: str) -> str | None:
    """The sense key of a spec ("bank@river" -> "bank.river"), or None."""
    spec = spec.split("#")[0]
    return spec.replace("@", ".") if "@" in spec else None


def _lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.strip()]


def _places(text: str) -> tuple[tuple[str, str], ...]:
    pairs = (place.split() for place in text.split(",") if place.strip())
    return tuple((preposition, noun) for preposition, noun in pairs)


class Lexicon:
    """All words of the town, read from the tables. It does not depend on the town's seed.

    Attributes:
        pairs, themes, frames, animals, professions, countries, adjectives: the tables as records,
            by name (frames by verb key).
    """

    def __init__(self) -> None:
        self.pairs: dict[str, GenderPair] = {}
        self.themes: dict[str, Theme] = {}
        self.frames: dict[str, VerbFrame] = {}
        self._attributes: dict[str, set[str]] = {}
        for line in _lines(tables.GENDER_PAIRS):
            masculine, feminine, theme, *attributes = line.split()
            self.pairs[theme] = GenderPair(masculine, feminine, theme, tuple(attributes))
        self._read_themes()
        self.animals = {r[0]: Animal(*r) for r in map(str.split, _lines(tables.ANIMALS))}
        self.countries = {r[0]: Country(*r) for r in map(str.split, _lines(tables.COUNTRIES))}
        self.professions: dict[str, Profession] = {}
        for line in _lines(tables.PROFESSIONS):
            name, workplace, verb, objects, women = line.split()
            record = Profession(name, workplace, verb, tuple(objects.split(",")), float(women))
            self.professions[name] = record
        self.adjectives: dict[str, Adjective] = {}
        for line in _lines(tables.ADJECTIVES):
            head, things, causes = (part.split() for part in line.split("|"))
            self.adjectives[head[0]] = Adjective(head[0], head[1], tuple(things), tuple(causes))
        self._add_derived_themes()
        self._describe()

    def _read_themes(self) -> None:
        name, topic = "", ""
        places: tuple[tuple[str, str], ...] = ()
        verbs: list[str] = []
        for line in _lines(tables.THEMES):
            if line.startswith(" "):
                key, objects, *own = (part.strip() for part in line.split("|"))
                where = _places(own[0]) if own else places
                self.frames[key] = VerbFrame(key, tuple(objects.split()), where)
                verbs.append(key)
                self.themes[name] = Theme(name, topic, tuple(verbs))
            else:
                head, _, listed = line.partition(":")
                (name, topic), places, verbs = head.split(), _places(listed), []

    def _add_derived_themes(self) -> None:
        for animal in self.animals.values():
            adult, young, home = animal.adult, animal.young, (("in", animal.home),)
            self._theme(
                f"adult.{adult}",
                VerbFrame(animal.sound, (), home),
                VerbFrame(f"sleep#{adult}", (), home),
                VerbFrame(f"eat#{adult}", (animal.food,), home),
                VerbFrame(f"guard#{adult}", (animal.young,), home),
            )
            self._theme(
                f"young.{adult}",
                VerbFrame(f"{animal.sound}#{young}", (), home),
                VerbFrame(f"play#{young}", (), home),
                VerbFrame(f"follow#{young}", ("mother@animal",), (("to", animal.home),)),
                VerbFrame(f"eat#{young}", (animal.food,), home),
            )
        for job in self.professions.values():
            at_work = (("at", job.workplace),)
            self._theme(
                f"job.{job.name}",
                VerbFrame(f"{job.verb}#{job.name}", job.objects, at_work),
                VerbFrame(f"work#{job.name}", (), at_work),
            )

    def _theme(self, name: str, *frames: VerbFrame) -> None:
        self.frames.update((frame.key, frame) for frame in frames)
        self.themes[name] = Theme(name, "", tuple(frame.key for frame in frames))

    @cached_property
    def topics(self) -> list[str]:
        """The topics that themes belong to, in table order."""
        return list(dict.fromkeys(theme.topic for theme in self.themes.values() if theme.topic))

    # ------------------------------------------------------------------ words

    def is_mass(self, spec: str) -> bool:
        """Whether a noun has no plural."""
        return spec in tables.MASS

    @cached_property
    def noun_genders(self) -> dict[str, str]:
        """Gender (m or f) of the nouns that have one."""
        genders = {}
        for pair in self.pairs.values():
            genders[pair.masculine], genders[pair.feminine] = MASCULINE, FEMININE
        return genders

    def noun(self, spec: str, number: str = "sg") -> Word:
        """A common noun; number is "sg" or "pl"."""
        lemma = lemma_of(spec)
        form = morphology.plural(lemma) if number == "pl" else lemma
        feats = [("Number", "Plur" if number == "pl" else "Sing")]
        if lemma in self.noun_genders:
            feats.insert(0, ("Gender", _GENDERS[self.noun_genders[lemma]]))
        return Word(form, lemma, "NOUN", tuple(feats), sense_of(spec))

    def verb(self, key: str, form: str, agreement: str = "n", tag: str = "VERB") -> Word:
        """A verb form: "base", "past", "pres" (which agrees) or "ing"; agreement m f n p i y."""
        lemma = lemma_of(key)
        singular = agreement in "mfn"
        if form == "pres":
            text = morphology.third_person(lemma) if singular else lemma
            if lemma == "be":
                text = "is" if singular else "am" if agreement == "i" else "are"
            feats = [("Tense", "Pres"), ("VerbForm", "Fin")]
        elif form == "past":
            text = morphology.past(lemma)
            if lemma == "be" and agreement in "py":
                text = "were"
            feats = [("Tense", "Past"), ("VerbForm", "Fin")]
        elif form == "ing":
            text, feats = morphology.present_participle(lemma), [("VerbForm", "Part")]
        else:
            text, feats = lemma, [("VerbForm", "Inf")]
        if form in ("pres", "past"):
            person = {"i": "1", "y": "2"}.get(agreement, "3")
            feats += [("Number", "Plur" if agreement == "p" else "Sing"), ("Person", person)]
        return Word(text, lemma, tag, tuple(sorted(feats)), sense_of(key))

    def adjective(self, key: str, degree: str = "Pos") -> Word:
        """An adjective in the degree Pos, Cmp or Sup."""
        lemma = lemma_of(key)
        form = lemma if degree == "Pos" else morphology.degrees(lemma)[degree == "Sup"]
        return Word(form, lemma, "ADJ", (("Degree", degree),), sense_of(key))

    def proper(self, spec: str, entity: str, gender: str | None = None) -> Word:
        """A proper noun with its BIO entity tag."""
        feats: tuple[tuple[str, str], ...] = (("Number", "Sing"),)
        if gender:
            feats = (("Gender", _GENDERS[gender]), *feats)
        return Word(lemma_of(spec), lemma_of(spec), "PROPN", feats, sense_of(spec), entity)

    # ------------------------------------------------------------------ attributes and relations

    def _mark(self, spec: str, *attributes: str) -> None:
        self._attributes.setdefault(lemma_of(spec), set()).update(attributes)

    def _describe(self) -> None:
        for pair in self.pairs.values():
            common = ("human", "animate", "in:" + pair.theme, *pair.attributes)
            self._mark(pair.masculine, "masculine", *common)
            self._mark(pair.feminine, "feminine", *common)
        for animal in self.animals.values():
            self._mark(animal.adult, "animal", "animate", "adult", "kind:" + animal.adult)
            self._mark(animal.young, "animal", "animate", "young", "kind:" + animal.adult)
            self._mark(animal.home, "place", "animal_home", "kind:" + animal.adult)
            self._mark(animal.sound, "sound", "action", "kind:" + animal.adult)
        for job in self.professions.values():
            self._mark(job.name, "human", "animate", "adult", "profession", "job:" + job.name)
            self._mark(job.workplace, "place", "workplace", "job:" + job.name)
            for thing in job.objects:
                self._mark(thing, "thing", "job:" + job.name)
        for land in self.countries.values():
            self._mark(land.name, "place", "country", "land:" + land.name)
            self._mark(land.capital, "place", "city", "land:" + land.name)
            self._mark(land.nationality, "nationality", "land:" + land.name)
            self._mark(land.product, "thing", "product", "land:" + land.name)
        for adjective in self.adjectives.values():
            scale = "scale:" + "-".join(
                sorted((lemma_of(adjective.key), lemma_of(adjective.opposite)))
            )
            self._mark(adjective.key, "quality", "gradable", scale)
        for theme in self.themes.values():
            if not theme.topic:
                continue
            for key in theme.verbs:
                self._mark(key, "action", "in:" + theme.name, "topic:" + theme.topic)
                for thing in self.frames[key].objects:
                    self._mark(thing, "thing", "in:" + theme.name, "topic:" + theme.topic)
                for _, place in self.frames[key].places:
                    self._mark(place, "place", "in:" + theme.name, "topic:" + theme.topic)

    def attributes(self, lemma: str) -> frozenset[str]:
        """The semantic attributes of a lemma (over all its senses); empty for a function word."""
        return frozenset(self._attributes.get(lemma, ()))

    @property
    def described(self) -> list[str]:
        """Every lemma that has semantic attributes, sorted."""
        return sorted(self._attributes)

    @cached_property
    def paradigm_verbs(self) -> list[str]:
        """One key a verb lemma of the themes, in table order: the verbs of the inflection relations."""
        keys: dict[str, str] = {}
        for theme in self.themes.values():
            for key in theme.verbs:
                keys.setdefault(lemma_of(key), key)
        return list(keys.values())

    @cached_property
    def plural_nouns(self) -> list[str]:
        """Countable nouns whose plural differs: people, animals, professions and themes' objects."""
        specs: dict[str, None] = {}
        for pair in self.pairs.values():
            specs.update({pair.masculine: None, pair.feminine: None})
        specs.update({a.adult: None for a in self.animals.values()})
        specs.update({a.young: None for a in self.animals.values()})
        specs.update(dict.fromkeys(self.professions))
        for theme in self.themes.values():
            for key in theme.verbs if theme.topic else ():
                specs.update(dict.fromkeys(self.frames[key].objects))
        return [
            s
            for s in specs
            if not self.is_mass(s) and morphology.plural(lemma_of(s)) != lemma_of(s)
        ]

    @cached_property
    def relations(self) -> dict[str, list[tuple[Word, Word]]]:
        """Named relations between words: what the analogy questions and the list documents draw on."""
        pairs: list[tuple[Word, Word]] = []
        royal: list[tuple[Word, Word]] = []
        for pair in self.pairs.values():
            words = (self.noun(pair.masculine), self.noun(pair.feminine))
            (royal if "royal" in pair.attributes else pairs).append(words)
        animals, jobs = self.animals.values(), self.professions.values()
        lands, verbs = self.countries.values(), self.paradigm_verbs
        return {
            "gender": pairs,
            "royal_gender": royal,
            "country_capital": [
                (self.proper(c.name, "B-LOC"), self.proper(c.capital, "B-LOC")) for c in lands
            ],
            "country_nationality": [
                (self.proper(c.name, "B-LOC"), self.adjective(c.nationality)) for c in lands
            ],
            "singular_plural": [(self.noun(s), self.noun(s, "pl")) for s in self.plural_nouns],
            "verb_past": [(self.verb(v, "base"), self.verb(v, "past")) for v in verbs],
            "verb_ing": [(self.verb(v, "base"), self.verb(v, "ing")) for v in verbs],
            "verb_third_person": [(self.verb(v, "base"), self.verb(v, "pres")) for v in verbs],
            "comparative": [(self.adjective(a), self.adjective(a, "Cmp")) for a in self.adjectives],
            "superlative": [(self.adjective(a), self.adjective(a, "Sup")) for a in self.adjectives],
            "young_animal": [(self.noun(a.adult), self.noun(a.young)) for a in animals],
            "animal_sound": [(self.noun(a.adult), self.verb(a.sound, "pres")) for a in animals],
            "animal_home": [(self.noun(a.adult), self.noun(a.home)) for a in animals],
            "profession_workplace": [(self.noun(j.name), self.noun(j.workplace)) for j in jobs],
        }
