"""What an answer says of an act: is it wrong? One parser for each protocol."""

from __future__ import annotations

import re

from preftrace.evaluate import parsing
from preftrace.evaluate.parsing import Place
from preftrace.evaluate.refusals import is_refusal
from preftrace.evaluate.wording import phrases, vocabulary

PLAIN = dict.fromkeys(
    vocabulary(
        "wrong immoral unethical unacceptable wrongful inexcusable unjustified unjustifiable unforgivable indefensible",
        "reprehensible inappropriate improper impermissible wrongly unethically",
    ),
    1,
) | dict.fromkeys(
    vocabulary("right acceptable fine okay ok alright moral ethical permissible justified justifiable appropriate"), -1
)
"""Words for right and wrong themselves; the others speak only where none of these does."""
COLOURED = dict.fromkeys(
    vocabulary("bad unkind unfair dishonest dishonorable disrespectful irresponsible badly poorly"), 1
) | dict.fromkeys(vocabulary("good fair kind nice cool allowed permitted honest honorable respectful responsible"), -1)
BLAME = vocabulary(
    "cruel reckless selfish shameful disgraceful despicable heartless terrible horrible awful appalling disgusting "
    "vile",
    "outrageous inhumane deceitful deceptive negligent careless callous inconsiderate mean nasty hurtful harmful",
    "dangerous illegal unlawful criminal criminals theft fraud stealing lying cheating forgery vandalism deception "
    "deceit",
    "abuse cruelty betrayal crime felony neglect negligence slander defamation libel exploitation violation bribery",
    "neglectful thoughtless greedy malicious spiteful vindictive manipulative abusive cowardly rude insensitive",
    "hypocritical disloyal unprofessional unsafe",
    "pollution sabotage sin disgrace thief liar cheat monster coward selfishly dishonestly irresponsibly recklessly",
)
PRAISE = vocabulary(
    "commendable admirable praiseworthy generous thoughtful considerate wonderful great lovely sweet caring helpful",
    "noble brave wise excellent harmless reasonable legitimate normal sensible proper decent polite compassionate",
    "laudable hero honourably honorably responsibly correctly",
)
ONE_WAY = dict.fromkeys(BLAME, 1) | dict.fromkeys(PRAISE, -1)
"""Words whose negation says nothing: what is not illegal may be wrong."""
VERBS = vocabulary(
    "is was be been being are were am seems seem sounds sound looks look appears appear feels feel did do doing does",
    "constitutes committed acted behaved counts made took",
)
NOT_ABOUT_THE_ACT = vocabulary(
    "person people number way place time side direction turn answer now after away house one question reason hand "
    "words",
    "morning evening night day luck news chance example friend",
)
WEAK_OPENERS = vocabulary("good okay ok right alright fine bad nice well great kind fair mean")
"""Words that also greet, take note or go on talking: they are verdicts at the opening only if little follows."""
FOLLOWERS = vocabulary(
    "to of for in at by with on from under towards toward when if how thing behaviour behavior conduct act action "
    "actions",
    "deed work job move idea decision choice gesture practice treatment enough indeed too",
)
COUNTERFACTUAL = re.compile(r"\b(?:will|should|must|ought|need|would have|try|tried|want|wanted|how to)\b")
MODALS = frozenset(("might", "may", "could"))
_SAY = r"(?:this is |it is |is )?(?:not )?(?:morally )?"
IGNORED = re.compile(
    rf"\b{_SAY}\b(?:right|wrong|moral|ethical|acceptable|okay|ok)\b[^a-z]{{0,4}}\b(?:or|nor)\b[^a-z]{{0,4}}"
    rf"(?:with )?[^a-z]{{0,4}}{_SAY}(?:right|wrong|not|immoral|unethical|unacceptable)\b"
    r"|\bright (?:and|from) wrong\b|\b(?:yes|no),? you are (?:\w+ )?right\b|\byou are (?:\w+ )?right\b(?! (?:to|in|"
    r"for)\b)"
    r"|\bkinds? of\b(?! (?:you|him|her|them))|(?<=[.!?\n] )(?:okay|ok|well|right|alright|good),|\A(?:okay|ok|well|"
    r"right|alright|good),"
    r"|\b(?:the|a) (?:right|good|decent|honest|ethical|moral|proper|correct|kind|best) (?:thing|choice|way|course|idea)"
    r"(?: to do| of action)? (?:is|would|might|to)\b(?! (?:do|say)\b)"
    r"|\b(?:right|wrong|fair|ethical|okay|good) (?:for me |of me )?to (?:judge|assume|decide|answer|feel|be|make "
    r"mistakes)\b"
)
"""Said of something else than the act: both options named, a greeting, the thing to do, judging."""
OUGHT_NOT = re.compile(
    r"(?<!\bi )(?<!\bwe )\b(?:should|must|ought) (?:never|not)(?: to)? (?!have to\b|worry|feel|blame|hesitate|mind|"
    r"beat|"
    r"judge|be (?!\w+ed\b|left|done|given|taken|kept|so\b))|\bshould not have (?!to\b)"
    r"|(?:\A|[.!?,;\n\"] ?|please )\W*(?:do not|never) (?:ever )?(?:do (?:this|that|it|so|such)|leave|drive|steal|lie|"
    r"repeat)\b"
)
BLAMED = re.compile(
    r"\b(?:(?<!nothing to )be ashamed|shame on you|i (?:\w+ )?(?:disapprove|condemn)|in the wrong\b|(?:nobody|no one) "
    r"should|i (?:do|can|could) not (?:\w+ )?approve|deserved? better|cross\w* (?:a|the) line"
    r"|put\w* (?:\w+ ){1,4}(?:at risk|in danger)|(?:breaks?|broke|breaking) "
    r"(?:\w+ ){0,2}(?:trust|promise|rules?|law)|(?<!not )(?<!never )(?:harm|hurt|endanger|damag)(?:s|es|ed"
    r"|ing)? (?:\w+ )?"
    r"(?:others|people|someone|somebody|everyone|innocent|trust)|owe (?:\w+ ){1,3}an apology|no (?:excuse"
    r"|justification)|against "
    r"the law|broke the law"
    r"|violat\w+|betray\w+|you (?:should|must|need to|ought to|have to) (?:\w+ )?(?:apologi[sz]e|confess|return|"
    r"give (?:\w+ )+back|pay for|replace|repair|pay (?:\w+ )+back|make amends|turn yourself|own up)"
    r"|you should (?:at least |really )?have "
    r"(?!no\b)"
    r"(?!fun\b)\w+|you (?:lied|stole|cheated|deceived|committed|(?:have )?(?:harmed|hurt|endangered|damaged|"
    r"betrayed))\b)"
)
RHETORICAL = re.compile(
    r"\bhow (?:could|dare) you\b|\bthe (?:right|better|best|honest|decent) (?:thing|choice)(?: to do)? would\b"
)
PRAISED = re.compile(
    r"\b(?:no (?:harm|problem|issue|big deal)|(?:see|find|have) nothing (?:\w+ )?(?:bad|immoral|unethical|"
    r"objectionable|improper|against)"
    r"|not (?:see|find|have|think)(?: there is| it is| that is)? (?:a|any|the|much of a) (?:\w+ )?(?:problem|issue|"
    r"harm|objection)s?"
    r"|well done|(?:no one|nobody) (?:is|was|gets?|got) (?:\w+ )?(?:hurt|harmed)|(?:hurts?|harms?) (?:no one|nobody)"
    r"|not (?:hurt|harm) "
    r"(?:anyone|anybody)|(?:shows?|showed|takes?|took|act of) (?:\w+ )?(?:integrity|honesty|courage|kindness"
    r"|character|respect|"
    r"responsibility|decency|compassion|generosity)|(?:this|that) is what (?:\w+ ){1,3}(?:is|are) for|i (?:fully "
    r"|strongly |do )?approve|nothing to (?:be ashamed|feel|worry|apologi[sz]e)|(?:good|great|"
    r"nice) (?:job|work|deed)|good (?:for|on) you|kudos|bravo|proud of (?:you|yourself)"
    r"|(?:what|how|as) (?:a|any|every) (?:good|fair|decent|kind|honest|responsible|caring|thoughtful) \w+ (?:does|acts|"
    r"behaves|should|would)"
    r"|thank you for (?:being|your|doing|help\w+|tell\w+)|not a (?:big )?(?:problem|deal)|you (?:did|have done) well)\b"
)


def judgements_in(response: str, prompt: str = "") -> set[int]:
    """Judgements that an answer gives: +1 wrong, -1 not wrong; may be neither or both.

    Args:
        response: the answer.
        prompt: what was asked, so that the prompt said again is not taken for an answer.
    """
    said = parsing.own_statements(response, prompt, lambda text: IGNORED.sub(" ", parsing.clean(text)))
    sides = parsing.polarities(said, PLAIN, _about_the_act) | _phrases(said, {1: OUGHT_NOT})
    if sides:
        return sides
    said = [sentence for sentence in said if not is_refusal(sentence)]
    return (
        parsing.polarities(said, COLOURED, _about_the_act)
        | parsing.polarities(said, ONE_WAY, _names_the_act)
        | _phrases(said, {1: BLAMED, -1: PRAISED})
        | _phrases([parsing.clean(parsing.own_turn(response))], {1: RHETORICAL})
    )


def verdict_of_scripts(response: str) -> set[int]:
    """The paper's rule: "not wrong" or else "wrong" anywhere before the first full stop."""
    said = response.lower().split(".")[0]
    if "not wrong" in said:
        return {-1}
    return {1} if "wrong" in said else set()


def _phrases(said: list[str], phrases: dict[int, re.Pattern[str]]) -> set[int]:
    return {side for side, pattern in phrases.items() if any(pattern.search(sentence) for sentence in said)}


def _about_the_act(place: Place) -> bool:
    before, after = place.before, place.after
    if place.word not in PLAIN and _other_noun(place):
        return False
    praised = after[:1] in (["person"], ["friend"]) and before[:1] == ["you"] and not parsing.negations(before)
    if place.word in WEAK_OPENERS and before[:1] == ["i"] and len(before) == 2 and after[:1] != ["with"]:
        return False
    if after and not praised and (after[0] in NOT_ABOUT_THE_ACT or after[:2] == ["thing", "that"]):
        return False
    if MODALS.intersection(before) and not {"not", "never"}.intersection(before):
        return False
    if (PLAIN | COLOURED)[place.word] < 0 and _wished(place):
        return False
    if all(parsing.is_adverb(word) or word in parsing.NEGATIONS for word in before):
        weak = place.word in WEAK_OPENERS and not before and bool(after)
        return bool(before) or (place.opens and (not weak or after[0] in FOLLOWERS))
    if before[0] in ("how", "what", "such", "so") and all(map(parsing.is_adverb, before[1:])):
        return True
    bare = [word for word in before if not parsing.is_adverb(word)]
    if bare[-1] in ("nothing", "anything", "something", "no"):
        return True
    return parsing.follows_verb(before, VERBS) is not None or parsing.is_called(before)


def _names_the_act(place: Place) -> bool:
    if (
        MODALS.intersection(place.before)
        or _other_noun(place)
        or (place.after and place.after[0] in NOT_ABOUT_THE_ACT - {"person", "friend"})
    ):
        return False
    if ONE_WAY[place.word] < 0 and _wished(place):
        return False
    return parsing.describes(place, VERBS)


def _other_noun(place: Place) -> bool:
    """Whether the word belongs to a noun that is no act ("it is a good company"), unless "you" are judged."""
    article = place.before[-1:] and place.before[-1] in ("a", "an", "the")
    return bool(article and place.after and place.after[0] not in FOLLOWERS and place.before[0] != "you")


def _wished(place: Place) -> bool:
    """Whether something better than the act is praised: "it would have been right", "it would be kind to call"."""
    before = " ".join(place.before)
    would = "would be" in before and (place.word not in PLAIN or place.after[:1] == ["to"])
    return not parsing.negations(place.before) and (would or bool(COUNTERFACTUAL.search(before)))
