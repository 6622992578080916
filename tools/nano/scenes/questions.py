"""Questions about a scene with their answers and masks, of the four kinds that GeoPixelD and RRSIS-D have."""

from dataclasses import dataclass

import numpy as np

from .expressions import EVERYWHERE, NOT_ON, ON, SUPPORTS, Expression, Index, colour_word, expressions, neighbours, support
from .palette import alike
from .scene import GROUND, Object, Scene
from .words import INCLUDES, article, cell_of, length, may_be_in, number, plural, position

GCG_PROMPT = ("Can you provide a thorough description of the this image? "
              "Please output with interleaved segmentation masks for the corresponding phrases.")
REFERRING_PROMPT = "Could you provide a segmentation mask for {expression} in this image?"
DESCRIBE_PROMPT = "Describe {expression} and give its segmentation mask."
WHERE_PROMPT = "Where is {expression}? Please output a segmentation mask."
GROUP_PROMPTS = ("Segment all {group} in this image.", "Are there {group} in this image? Please output a segmentation mask.")
MOST_MASKS, MOST_WORDS = 7, 84  # of one answer
AS_GROUP = 3  # as many of a kind are described together


@dataclass
class Target:
    mask: np.ndarray  # bool [size, size]
    kind: str
    is_group: bool  # one mask over several objects
    box: tuple[float, float, float, float]  # x0, y0, x1, y1, 0 … 1 of the picture
    instances: int


@dataclass
class Question:
    kind: str  # "gcg", "object", "group" or "referring"
    prompt: str
    answer: str  # text with `<p> phrase </p> [SEG]`
    targets: list[Target]  # one for each [SEG], in order


def ask(scene: Scene, random: np.random.Generator) -> list[Question]:
    """One description of the scene and, where it has objects for them, up to three questions of every other kind."""
    index = Index(scene)
    named = {o.number: expressions(o, index) for o in scene.objects if index.may_be_target(o)}
    unambiguous = [o for o in scene.objects if named.get(o.number)]
    questions = [_gcg(index, random)]
    for target in _pick(unambiguous, 3, random):
        questions.append(_referring(target, named[target.number], index, random))
    for target in _pick(unambiguous, 2, random):
        questions.append(_object(target, named[target.number], index, random))
    for group in _pick(_groups(index), 2, random):
        questions.append(_group(*group, index, random))
    return [q for q in questions if q.targets]


def _pick(items: list, most: int, random: np.random.Generator) -> list:
    """Up to `most` of the items, in random order; rare kinds as likely as common ones, trees and containers less so."""
    if not items:
        return []
    kinds = [(i[0] if isinstance(i, tuple) else i.kind) for i in items]
    weights = np.array([(0.3 if kind in ("tree", "container") else 1.0) / kinds.count(kind) for kind in kinds])
    return [items[i] for i in random.choice(len(items), min(most, len(items)), replace=False, p=weights / weights.sum())]


def _target(members: list[Object], index: Index) -> Target:
    size = index.scene.size
    mask = members[0].mask if len(members) == 1 else np.isin(index.scene.ids, [o.number for o in members])
    boxes = np.array([o.box for o in members])
    box = (*(boxes[:, :2].min(0) / size).tolist(), *(boxes[:, 2:].max(0) / size).tolist())
    instances = sum(o.instances for o in members)
    return Target(mask, members[0].kind, instances > 1, box, instances)


def _seg(phrase: str) -> str:
    return f"<p> {phrase} </p> [SEG]"


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:] + (" ." if text.endswith("[SEG]") else ".")


def _adjectives(one: Object, phrase: str = "") -> str:
    """"large white storage tank", with what the object has of it."""
    return " ".join(word for word in (one.scale if one.kind not in GROUND else "", colour_word(one), phrase or one.kind) if word)


def _place(one: Object) -> str:
    """Where it is, where that is certain; a road, a river and the sea are everywhere."""
    cell = None if one.kind in EVERYWHERE else cell_of(one.centre)
    return position(cell) if cell else ""


def _referring(target: Object, named: list[Expression], index: Index, random: np.random.Generator) -> Question:
    expression = named[random.integers(len(named))]
    return Question("referring", REFERRING_PROMPT.format(expression="the " + expression.text),
                    f"Here is the {_seg(expression.text)} .", [_target([target], index)])


def _object(target: Object, named: list[Expression], index: Index, random: np.random.Generator) -> Question:
    """A description of one object: size, colour, place, what it is on or next to."""
    expression = named[random.integers(len(named))]
    under, beside = support(target, index), neighbours(target, index)
    tail = [_place(target)] if _place(target) else []
    tail += [SUPPORTS[under]] if under else []
    tail += [f"next to the {beside[0]}"] if beside else []
    where = ", ".join(tail)
    seg = _seg(_adjectives(target))
    prompt = WHERE_PROMPT if where and not expression.cell and random.random() < 0.5 else DESCRIBE_PROMPT
    prompt = prompt.format(expression="the " + expression.text)
    answer = f"the {seg} is {where}" if where else f"this is the {seg}"
    return Question("object", prompt, _sentence(answer), [_target([target], index)])


def _groups(index: Index) -> list[tuple[str, str, str, list[Object]]]:
    """Sets of at least two objects that a few words name without doubt: kind, adjective, tail of the phrase, members."""
    found = []
    for kind in sorted({o.kind for o in index.objects} - set(GROUND) | {"field"}):
        members = [o for o in index.objects if o.kind == kind]
        if any(o.kind in INCLUDES.get(kind, ()) for o in index.objects):
            continue
        if len(members) < 2 or sum(o.area for o in members) < 2 * index.least:
            continue
        found.append((kind, "", "", members))
        for colour in sorted({colour_word(o) for o in members} - {""}):
            named = [o for o in members if o.colour == colour]
            if 2 <= len(named) < len(members) and not any(alike(o.colour, colour) for o in members if o not in named):
                found.append((kind, colour, "", named))
        for ground_kind, words in SUPPORTS.items():
            ground = index.sole(ground_kind)
            if ground is None or kind not in ("car", "truck", "airplane"):
                continue
            shares = [index.share_on(o, ground) for o in members]
            named = [o for o, share in zip(members, shares) if share >= ON]
            if 2 <= len(named) < len(members) and not any(NOT_ON <= share < ON for share in shares):
                found.append((kind, "", words, named))
        for cell in [(c, r) for c in range(3) for r in range(3)]:
            named = [o for o in members if cell_of(o.centre) == cell]
            if 2 <= len(named) < len(members) and not any(may_be_in(o.centre, cell) for o in members if o not in named):
                found.append((kind, "", position(cell), named))
    return [g for g in found if sum(o.area for o in g[3]) >= index.least]


def _group(kind: str, adjective: str, tail: str, members: list[Object], index: Index, random: np.random.Generator) -> Question:
    phrase = " ".join(word for word in (adjective, plural(kind)) if word)
    prompt = GROUP_PROMPTS[random.integers(len(GROUP_PROMPTS))].format(group=" ".join(w for w in (phrase, tail) if w))
    answer = f"There are {_how_many(members, index)} {_seg(phrase)}" + (f" {tail}." if tail else " .")
    return Question("group", prompt, answer, [_target(members, index)])


def _how_many(members: list[Object], index: Index) -> str:
    return number(len(members), all(o.area >= index.least for o in members))


def _gcg(index: Index, random: np.random.Generator) -> Question:
    """The scene from the large to the small: the ground, then things; three or more of a kind under one mask."""
    kinds: dict[str, list[Object]] = {}
    for one in index.objects:
        kinds.setdefault(one.kind, []).append(one)
    size = index.scene.size
    ranked = sorted(kinds.items(), key=lambda item: (item[0] not in GROUND, -sum(o.area for o in item[1]), item[0]))
    mentions: list[tuple[str, list[Object]]] = []
    for kind, members in ranked:
        if kind in GROUND and sum(o.area for o in members) < 0.01 * size * size:
            continue
        fit = [o for o in members if index.may_be_target(o)]
        if len(members) >= AS_GROUP and sum(o.area for o in members) >= 2 * index.least:
            mentions.append((_group_mention(kind, members, index), members))
        else:
            for one in sorted(fit, key=lambda o: (-o.area, o.number)):
                noun = plural(kind) if one.instances > 1 else kind
                phrase = _adjectives(one, noun)
                lead = "" if one.instances > 1 else "the " if kind == "sea" else article(phrase).split()[0] + " "
                mentions.append((f"{lead}{_seg(phrase)}" + (f" {_place(one)}" if _place(one) else ""), [one]))
    setting = index.scene.setting
    opening = "" if setting == "open ground" else f"This is {setting}."
    words, kept = length(opening), []
    for text, members in mentions[:MOST_MASKS]:
        if words + length(text) + 3 > MOST_WORDS:
            break
        words += length(text) + 3
        kept.append((text, members))
    sentences = []
    for first in range(0, len(kept), 2):
        pair = kept[first:first + 2]
        many = pair[0][1][0].instances > 1 or len(pair[0][1]) > 1
        sentences.append(_sentence(f"there {'are' if many else 'is'} " + " and ".join(text for text, _ in pair)))
    if opening:
        sentences.insert(0 if random.random() < 0.5 else len(sentences), opening)
    return Question("gcg", GCG_PROMPT, " ".join(sentences), [_target(members, index) for _, members in kept])


def _group_mention(kind: str, members: list[Object], index: Index) -> str:
    """"several <p> cars </p> [SEG] on the road", with a colour or a place that all members share."""
    colours = {colour_word(o) for o in members}
    colour = colours.pop() + " " if len(colours) == 1 and "" not in colours else ""
    under = {support(o, index) for o in members}
    places = {cell_of(o.centre) for o in members}
    tail = ""
    if len(under) == 1 and "" not in under:
        tail = " " + SUPPORTS[under.pop()]
    elif len(places) == 1 and None not in places:
        tail = " " + position(places.pop())
    return f"{_how_many(members, index)} {_seg(colour + plural(kind))}{tail}"
