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
from preftrace.types import Prompt


def vocabulary(*lines: str) -> frozenset[str]:
    """The words in some lines."""
    return frozenset(word for line in lines for word in line.split())


QUOTES = str.maketrans(dict.fromkeys("’‘ʼ`", "'") | dict.fromkeys("“”„«»", '"'))
NEGATIONS = vocabulary("not never neither nor no nothing hardly none without dont isnt didnt wasnt")
UNSURE = vocabulary("if whether unless when unsure sure either")
ADVERBS = vocabulary(
    "strongly completely fully totally wholeheartedly absolutely definitely entirely partially partly somewhat firmly",
    "respectfully really truly also generally mostly largely certainly actually simply just very quite rather so still",
    "readily personally honestly kindly politely vehemently emphatically only even clearly obviously morally ethically",
    "always perfectly extremely deeply highly plainly usually often probably perhaps maybe seriously utterly",
    "necessarily both too a an the most more all considered deemed seen",
)
REFUSING_VERBS = (
    r"help|assist|answer|shar\w+|reveal\w*|disclos\w+|provid\w+|giv\w+|tell|discuss\w*|comment|respond|engag\w+|compl\w+|"
    r"fulfil\w*|offer|mak\w+|judg\w+|express\w*|tak\w+|support|do (?:that|this)|participat\w+|repeat|write|generat\w+|"
    r"pass|hand|continue|(?:either )?agree or disagree|have (?:personal |any )?(?:opinions|beliefs|views|feelings)"
)
REFUSALS = tuple(
    re.compile(pattern)
    for pattern in (
        rf"\bi (?:\w+ )?(?:can|could|will|would|must|should|do|may|am) not "
        r"(?:(?:and|or) will not )?(?:\w+ )?(?:be )?"
        rf"(?:(?:able|going|allowed|permitted|willing|authori[sz]ed|at liberty|in a position|comfortable) "
        rf"(?:to |with )?)?"
        rf"(?:to )?(?:{REFUSING_VERBS})\b",
        r"\bi (?:am|would) not (?:be )?(?:\w+ )?"
        r"(?:able|allowed|permitted|willing|authori[sz]ed|comfortable|at liberty)\b",
        r"\b(?:i am|i was|being) (?:\w+ )?unable to\b",
        r"\bsorry\b[^.!?]{0,60}\b(?:can not|could not|will not|unable|not able|not allowed|must not)\b",
        r"\bas an? (?:ai|artificial intelligence|(?:large )?language model|chatbot|virtual assistant|ai assistant)\b",
        r"\bi am (?:just |only )?an? (?:ai|artificial intelligence|(?:large )?language model|chatbot)\b",
        r"\b(?:i|must|have to|need to|will) (?:respectfully |politely )?(?:decline|refuse)\b",
        r"\bi (?:would|will) (?:rather|prefer) (?:to )?not\b|\bi prefer not to\b|\bi would rather not\b",
        r"\b(?:not|never) (?:appropriate|permitted|allowed|authori[sz]ed) (?:for me )?to\b",
        r"\binappropriate (?:for me )?to\b",
        r"\bagainst (?:my|our|the) (?:\w+ )?(?:policy|policies|guidelines|rules|programming)\b",
        r"\bno comment\b",
        r"\bi do not think (?:that )?i (?:can|could|should|may)\b(?! (?:not )?(?:dis)?agree)",
    )
)
UNKNOWN = tuple(
    re.compile(pattern)
    for pattern in (
        r"\bi (?:really |honestly |just )?(?:do|did) not (?:know|remember|recall)\b",
        r"\bi (?:am|was) (?:really |honestly )?(?:not (?:sure|certain|aware)|unsure|uncertain)\b",
        r"\b(?:i have )?no idea\b",
        r"\b(?:there is|i have) (?:no|not enough) (?:reliable |specific )?(?:information|record|data)\b",
        r"\bi do not have (?:any|enough|the) (?:\w+ )?(?:information|knowledge|data)\b",
        r"\b(?:can not|could not) (?:be )?(?:determined?|verify|verified|confirm(?:ed)?|find|found)\b",
    )
)


def clean(text: str) -> str:
    """Lower case, plain quotes, no Markdown marks, contractions written out, verdicts in English; line breaks kept."""
    text = in_english(unicodedata.normalize("NFKC", text).translate(QUOTES).casefold())
    text = re.sub(r"[*_#>]+", " ", text)
    text = re.sub(r"\bwon't\b", "will not", text)
    text = re.sub(r"\b(?:can't|cannot|cant)\b", "can not", text)
    text = re.sub(r"n't\b", " not", text)
    for ending, word in (("s", "is"), ("m", "am"), ("re", "are"), ("ve", "have"), ("ll", "will"), ("d", "would")):
        text = re.sub(rf"(?<=[a-z])'{ending}\b", f" {word}", text)
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


def own_statements(response: str, prompt: str, choice: re.Pattern[str]) -> list[str]:
    """What an answer states in its own turn: sentences of cleaned text, without questions and the prompt said again.

    Args:
        response: the answer as it came.
        prompt: what was asked.
        choice: over cleaned text: both verdicts side by side, which states neither.
    """
    said, given = (choice.sub(" ", clean(text)) for text in (own_turn(response), prompt))
    return without_echo(said, given)


def without_echo(answer: str, prompt: str) -> list[str]:
    """The answer's sentences that are statements of its own.

    Left out: questions, and sentences of four words or more that stand in the prompt.

    Args:
        answer: cleaned answer.
        prompt: cleaned prompt.
    """
    asked = " ".join(words(prompt))
    kept = []
    for sentence in sentences(answer):
        said = words(sentence)
        if sentence.rstrip("\"')] ").endswith("?") or (len(said) >= 4 and " ".join(said) in asked):
            continue
        kept.append(sentence)
    return kept


BREAK = re.compile(r"([,;:()\"]|\s-+\s|[–—]|\b(?:but|however|though|although|because|and|since|as)\b)")


class Clause(NamedTuple):
    """The words of a clause, and whether it opens its sentence or follows a conjunction."""

    words: list[str]
    opens: bool


def clauses(sentence: str) -> Iterator[Clause]:
    """The clauses of a sentence."""
    parts = BREAK.split(sentence)
    opens = True
    for place in range(0, len(parts), 2):
        joint = parts[place - 1] if place else ""
        opens = opens or joint.isalpha()
        if found := words(parts[place]):
            yield Clause(found, opens)
            opens = False


def polarities(
    said: Sequence[str], keywords: Mapping[str, int], anchored: Callable[[list[str], list[str], bool], bool]
) -> set[int]:
    """Which sides the sentences take: a keyword gives its side, or the other one where it is negated.

    Args:
        said: sentences.
        keywords: word -> +1 or -1.
        anchored: given the words before a keyword in its clause, those after, and whether the clause opens, says
            whether the keyword is a verdict of the speaker's own.

    Returns:
        The sides taken: empty, one, or both.
    """
    sides = set()
    for sentence in said:
        for said_here, opens in clauses(sentence):
            for place, word in enumerate(said_here):
                before = said_here[:place]
                if word not in keywords or UNSURE.intersection(before):
                    continue
                if anchored(before, said_here[place + 1 :], opens):
                    sides.add(keywords[word] * (-1) ** negations(before))
    return sides


def negations(before: Sequence[str]) -> int:
    """How many negations stand before a word in its clause; "not only" is none."""
    pairs = zip_longest(before, before[1:])
    return sum(word in NEGATIONS and following not in ("only", "just") for word, following in pairs)


def follows_verb(before: Sequence[str], verbs: frozenset[str]) -> int | None:
    """Place of the verb that the next word completes: only adverbs, articles and negations lie between."""
    for place in range(len(before) - 1, -1, -1):
        if before[place] in verbs:
            return place
        if before[place] not in ADVERBS and before[place] not in NEGATIONS:
            return None
    return None


def is_refusal(text: str, extra: Sequence[re.Pattern[str]] = ()) -> bool:
    """Whether an answer declines to do what was asked.

    Args:
        text: the answer as it came.
        extra: patterns over cleaned text that are refusals in one vertical only.
    """
    cleaned = re.sub(r"\s+", " ", clean(text))
    return any(pattern.search(cleaned) for pattern in (*REFUSALS, *extra))
