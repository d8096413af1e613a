"""What answers say: clean clauses, verdict words with their negations, and refusals. Shared by the judges.

The parsers are rules, not models: they look for a verdict that the answer states as its own, in a clause that is not a
question, not a condition and not the prompt said again. Whatever is not clear is left unparsed.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import NamedTuple

from preftrace.evaluate.languages import in_english
from preftrace.evaluate.wording import phrases, vocabulary
from preftrace.types import Prompt

QUOTES = str.maketrans(dict.fromkeys("’‘ʼ`", "'") | dict.fromkeys("“”„«»", '"'))
NEGATIONS = vocabulary("not never neither nor no nothing nobody none hardly barely scarcely without")
NOT_NEGATED = frozenset(("only", "just", "merely", "short", "doubt", "question"))
"""After a negation: "not only" and "nothing short of" negate nothing."""
SPEAKERS = vocabulary("i it this that you they we he she the")
"""After a "no" that opens a clause: it answers, and does not negate what follows."""
UNSURE = vocabulary("if whether unless when unsure either")
SAID_BY = (
    "say/says/said/think/thinks/believe/believes/argue/claim/consider/see/find/feel/call/view/regard/might/may/could"
)
OTHERS = phrases(
    f"^ ~2!no he/she/they/some/many/most/other/others/critics/someone/somebody/one ~3 {SAID_BY}",
    f"^ ~2!no my/his/her/their ~!no {SAID_BY}",
)
"""A clause that gives the view of others."""
ADVERBS = vocabulary(
    "very quite rather so still also just even too always often plain downright outright perhaps maybe both indeed",
    "like pretty somewhat a an the as most more all considered deemed seen",
)
LONG_FORMS: dict[str | re.Pattern[str], str] = {
    r"\blet'?s\b": "let us",
    r"\bwon't\b|\bwont\b": "will not",
    r"\b(?:can't|cannot|cant)\b": "can not",
    r"n't\b": " not",
    r"\b(that|what|there|he|she)s\b": r"\1 is",
    r"\b(do|does|did|is|are|was|were|would|should|could|has|have)nt\b": r"\1 not",
    r"(?<=[a-z])'s\b": " is",
    r"(?<=[a-z])'m\b|(?<=\bi)m\b": " am",
    r"(?<=[a-z])'re\b": " are",
    r"(?<=[a-z])'ve\b": " have",
    r"(?<=[a-z])'ll\b": " will",
    r"(?<=[a-z])'d\b": " would",
    r"\b(?:far from|anything but)(?= (?!it\b)[a-z])": "not",
    phrases("too ~ to be"): "not",
    phrases("as stated/written/worded/phrased/presented/it_stands/such/a_whole"): " ",
    phrases("to be ~ honest/fair/frank/clear/sure/kind !and/to/with"): " ",
    phrases("without [a/any] doubt/question, [there_is] no doubt/question [that/about_it]"): "surely",
    phrases(
        "my/the [final/honest/short] answer/response/stance/opinion/position/choice/verdict/judgement/judgment"
        "is/would_be  !right/wrong/correct/that"
    ): "answer:",
}
"""Pattern over lower-case text -> what is put in its place: contractions written out, turns of phrase made plain."""


def clean(text: str) -> str:
    """Lower case, plain quotes, no Markdown marks, contractions written out, verdicts in English; line breaks kept."""
    text = in_english(unicodedata.normalize("NFKC", text).translate(QUOTES).casefold())
    text = re.sub(r"[*_#>]+", " ", text)
    for pattern, plain in LONG_FORMS.items():
        text = re.sub(pattern, plain, text)
    return re.sub(r"[^\S\n]+", " ", text).strip()


def own_turn(text: str) -> str:
    """The answer up to where it starts to speak for somebody else or poses the next question; that may be at once."""
    text = re.sub(r"\A\s*(?:Assistant|Answer|A)\s*:", "", text)
    return re.split(r"(?:\A|\n)\s*(?:Human|User|Assistant|System|Q|Question)\s*:", text, maxsplit=1)[0]


def words(text: str) -> list[str]:
    """The words of cleaned text."""
    return re.findall(r"[^\W_]+(?:'[^\W_]+)?", text)


def sentences(text: str) -> list[str]:
    """Sentences of cleaned text with their end mark, split at end marks and line breaks."""
    return [s.strip() for s in re.findall(r"[^.!?\n]+[.!?]*[\"')\]]*", text) if words(s)]


def asked(prompt: Prompt) -> str:
    """What a prompt says: its text, or what its turns say, a line each."""
    return prompt if isinstance(prompt, str) else "\n".join(turn.content for turn in prompt)


INSTRUCTION = re.compile(
    r'(?i)(?<!\w )(?<!\w)(?:reply|respond|answer)(?: either)? with "[^"\n]*"(?:,? or "[^"\n]*")?|\bor with "[^"\n]*"'
)
"""The prompt's instruction in other words, which states nothing."""


def own_statements(response: str, prompt: str, plain: Callable[[str], str]) -> list[str]:
    """What an answer states in its own turn: sentences of cleaned text, without questions and the prompt said again.

    Args:
        response: the answer as it came.
        prompt: what was asked.
        plain: cleans a text, and takes out what states nothing.
    """
    return without_echo(plain(INSTRUCTION.sub("", own_turn(response))), plain(prompt))


def without_echo(answer: str, prompt: str) -> list[str]:
    """The answer's sentences that are statements of its own.

    Left out: questions, and sentences of four words or more that stand in the prompt, and
    all of an answer that does. A question that the answer puts
    to itself and answers by yes or no is a statement ("Is it wrong? No." says "not wrong").

    Args:
        answer: cleaned answer.
        prompt: cleaned prompt.
    """
    asked = " ".join(words(prompt))
    if len(words(answer)) >= 8 and " ".join(words(answer)) in asked:
        return []
    kept = []
    found = sentences(answer)
    for sentence, following in zip_longest(found, found[1:], fillvalue=""):
        said = words(sentence)
        if len(said) >= 4 and " ".join(said) in asked:
            continue
        sentence, tags = TAG.subn(".", sentence)
        if tags or not sentence.rstrip("\"')] ").endswith("?"):
            kept.append(sentence)
        elif reply := REPLY.match(following):
            kept.append(("not " if reply["no"] else "") + ASKING.sub("", sentence).rstrip("?\"')] "))
    return kept


REPLY = re.compile(
    r"\W*(?:(?P<no>no|nope|hardly|(?:absolutely |definitely |certainly |of course )?not|never|nothing)|"
    r"yes|yeah|yep|absolutely|definitely|certainly|of course)(?=\W*$|[,;.!:]| (?:it|i|this|that)\b)"
)
TAG = re.compile(
    r",\s*(?:right|correct|no|yes|eh|okay|(?:who|what|how) else|"
    r"(?:is|are|do|does|did|was|were|would|have)(?: not)? (?:it|they|you|he|she|i|we)(?: not| think)?)\W*\?\W*$"
)
"""What makes a statement sound like a question: "..., isn't it?"."""
ASKING = re.compile(r"^\W*(?:(?:so|and|do|does|is|was|would|it|this|that|i|you|be|the act)\b\W*)*")
BREAK = re.compile(
    r"([,;:()\"]|\s-+\s|[–—]|\b(?:but|however|though|although|because|and|since|while|"
    r"as(?= (?:it|this|that|they|he|she|you|i|we|there|people|many|some|most)\b))\b)"
)
CONCESSIONS = frozenset(("though", "although", "while"))


class Clause(NamedTuple):
    """A clause.

    Attributes:
        words: its words.
        opens: whether it opens its sentence, or follows a conjunction, a colon or a dash.
        conceded: whether it grants something ("although it is legal").
    """

    words: list[str]
    opens: bool
    conceded: bool


def clauses(sentence: str) -> Iterator[Clause]:
    """The clauses of a sentence."""
    parts = BREAK.split(sentence)
    opens, conceded = True, False
    for place in range(0, len(parts), 2):
        joint = parts[place - 1].strip() if place else ""
        opens = opens or joint.isalpha() or joint in (":", "–", "—") or joint.startswith("-")
        conceded = (joint in CONCESSIONS and (joint != "while" or not words(parts[0]))) or (conceded and joint == "and")
        if found := words(parts[place]):
            yield Clause(found, opens, conceded)
            opens = False


OWN_DOING = phrases("for/of me/us")
"""After a word: what would be right or wrong for the speaker, who is not the one to be judged."""


class Place(NamedTuple):
    """A keyword in its clause: the words before it, itself, the words after it, and whether the clause opens."""

    before: list[str]
    word: str
    after: list[str]
    opens: bool


def polarities(said: Sequence[str], keywords: Mapping[str, int], anchored: Callable[[Place], bool]) -> set[int]:
    """Which sides the sentences take: a keyword gives its side, or the other one where it is negated.

    What a clause concedes counts only where nothing else takes a side; what it says that others think does not count.

    Args:
        said: sentences.
        keywords: word -> +1 or -1.
        anchored: whether a keyword is a verdict of the speaker's own.

    Returns:
        The sides taken: empty, one, or both.
    """
    sides: tuple[set[int], set[int]] = (set(), set())
    for clause in (clause for sentence in said for clause in clauses(sentence)):
        for number, word in enumerate(clause.words):
            place = Place(clause.words[:number], word, clause.words[number + 1 :], clause.opens)
            if word not in keywords or is_unsure(place.before) or OTHERS.search(" ".join(place.before)):
                continue
            if OWN_DOING.match(" ".join(place.after)):
                continue
            if anchored(place):
                sides[clause.conceded].add(keywords[word] * (-1) ** negations(place.before))
    return sides[False] or sides[True]


def is_unsure(before: Sequence[str]) -> bool:
    """Whether the words before a verdict leave it open: a condition, or "not sure"."""
    known = [place for place, word in enumerate(before) if word in ("sure", "certain")]
    return bool(UNSURE.intersection(before)) or any(NEGATIONS.intersection(before[:place]) for place in known)


def negations(before: Sequence[str]) -> int:
    """How many negations stand before a word in its clause; "not only" is none, nor the "no" of "no it is"."""
    pairs = list(zip_longest(before, before[1:]))
    if pairs and pairs[0][0] == "no" and pairs[0][1] in SPEAKERS:
        del pairs[0]
    return sum(word in NEGATIONS and following not in NOT_NEGATED for word, following in pairs)


def is_adverb(word: str) -> bool:
    """Whether a word may stand between a verb and what is said of it."""
    return word in ADVERBS or word.endswith("ly")


def follows_verb(before: Sequence[str], verbs: frozenset[str]) -> int | None:
    """Place of the verb that the next word completes: only adverbs, articles and negations lie between."""
    for place in range(len(before) - 1, -1, -1):
        if before[place] in verbs:
            return place
        if not is_adverb(before[place]) and before[place] not in NEGATIONS:
            return None
    return None


CALLS = vocabulary("call called consider deem label")
REGARDS = vocabulary("believe find judge think rate view regard say see")
OBJECTS = vocabulary(
    "this that it your the such what you did act acts action actions behaviour behavior conduct claim claims statement",
    "statements view views idea ideas to be as a an very not",
)


def is_called(before: Sequence[str]) -> bool:
    """Whether the words before one say that the speaker calls something by it: "I would call that"."""
    start = len(before)
    while start and (before[start - 1] in OBJECTS or before[start - 1].endswith("ly")):
        start -= 1
    verb = before[start - 1] if start else ""
    return verb in CALLS or (verb in REGARDS and start < len(before))


FILLERS = vocabulary("act thing move behavior behaviour claim to do say")
PREPOSITIONS = vocabulary(
    "about for against to with in from by on at into than that which who if i you he she we they it this"
)


def describes(place: Place, verbs: frozenset[str]) -> bool:
    """Whether a word, not negated, says what something is: "is a clear case of fraud", "how cruel", "Theft."."""
    before = place.before
    if negations(before):
        return False
    if all(map(is_adverb, before)):
        return place.opens and FILLERS.issuperset(place.after)
    verb = max((number for number, word in enumerate(before) if word in verbs), default=None)
    if verb is None:
        exclaimed = before[0] in ("how", "what", "such", "so", "pure", "plain")
        return (exclaimed and not PREPOSITIONS.intersection(before[1:])) or is_called(before)
    return len(before) - verb <= 6 and not PREPOSITIONS.intersection(before[verb + 1 :])
