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
        "reprehensible inappropriate improper impermissible wrongly unethically wrongdoing",
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
    "cruel reckless selfish shameful disgraceful despicable heartless terrible horrible awful appalling disgusting",
    "vile outrageous inhumane deceitful deceptive negligent careless callous inconsiderate mean nasty hurtful harmful",
    "rude dangerous illegal unlawful criminal criminals theft fraud stealing lying cheating forgery vandalism",
    "deception abuse cruelty betrayal crime felony neglect negligence slander defamation libel exploitation violation",
    "bribery neglectful thoughtless greedy malicious spiteful vindictive manipulative abusive cowardly insensitive",
    "deceit hypocritical disloyal unprofessional unsafe pollution sabotage sin disgrace thief liar cheat monster",
    "coward selfishly dishonestly irresponsibly recklessly rotten lousy sneaky questionable dubious intolerable",
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
    "person people number way place time side direction turn answer now after away house one question reason hand",
    "words morning evening night day luck news chance example friend",
    "judgement judgements judgment judgments verdict verdicts view views matter matters issue issues standpoint values",
    "perspective evaluation evaluations opinion opinions dilemma dilemmas questions grounds compass",
)
WEAK_OPENERS = vocabulary("good okay ok right alright fine bad nice well great kind fair mean")
"""Words that also greet, take note or go on talking: they are verdicts at the opening only if little follows."""
FOLLOWERS = vocabulary(
    "to of for in at by with on from under towards toward when if how thing behaviour behavior conduct act action",
    "actions deed work job move idea decision choice gesture practice treatment enough indeed too",
)
MODALS = frozenset(("might", "may", "could"))
COUNTERFACTUAL = phrases("will/should/must/ought/need/would_have/try/tried/want/wanted/how_to")
SIDE = (
    r"(?:this is |it is |is )?(?:not )?(?:morally )?(?:right|wrong|(?:im)?moral|(?:un)?ethical|(?:un)?acceptable|"
    r"okay|ok|not)"
)
BOTH_NAMED = re.compile(rf"\b{SIDE}\b[^a-z]{{0,4}}\b(?:or|nor)\b[^a-z]{{0,4}}(?:with )?[^a-z]{{0,4}}{SIDE}\b")
GREETING = re.compile(r"(?:\A|(?<=[.!?\n] ))(?:okay|ok|well|right|alright|good),")
BETTER = "right/good/better/best/decent/honest/ethical/moral/proper/correct/kind"
OF_OTHER_THINGS = phrases(
    "right and/from wrong, you are ~ right !to/in/for, kind/kinds of !you/me/him/her/them, if anything",
    f"the/a {BETTER} thing/choice/way/course/idea [to_do/of_action] is/would/might",
    f"the/a {BETTER} way/choice/course to, the/a {BETTER} thing/idea to !do/say",
    "right/wrong/fair/ethical/okay/good [for_me/of_me] to judge/assume/decide/answer/feel/be/make_mistakes",
)
"""The thing to do, and judging."""
OUGHT_NOT = phrases(
    "!i/we should/must never/not !to/have/worry/feel/blame/hesitate/mind/beat/judge/be, should not have !to",
    "!i/we ought never/not to !have/worry/feel/blame/hesitate/mind/beat/judge/be",
    "!i/we should/must never/not be !ashamed/worried/concerned *ed/*ing/left/done/given/taken/kept/so",
    "^ [please] do_not/never [ever] leave/drive/steal/lie/cheat/repeat/do_this/do_that/do_it/do_so/do_such",
)
BLAMED = phrases(
    "!nothing_to be ashamed, shame on you, i ~ disapprove/condemn, in the wrong, nobody/no_one should, i ~ not approve",
    "deserve/deserves/deserved better, cross* the/a line, put* ~4 at_risk/in_danger, owe ~3 an apology",
    "i ~ not ~ support/defend/justify/excuse/endorse/condone what/this/that/such/your",
    "break/breaks/broke/breaking ~2 trust/promise/promises/rule/rules/law, no excuse/justification, against the law",
    "!not/never harm*/hurt/hurts/hurting/endanger*/damag* ~ others/people/someone/somebody/everyone/innocent/trust",
    "you should/must/need_to/ought_to/have_to ~ apologi*/confess/return/repair/replace/pay_for/make_amends/own_up",
    "you should/must/need_to/ought_to/have_to ~ give/pay/turn ~3 back/yourself, violat*, betray*, breach of",
    "knew/know better than, hard/impossible to defend/justify/excuse, you should [at_least/really] have !no/fun",
    "you [have] lied/stole/stolen/cheated/deceived/committed/harmed/hurt/endangered/damaged/betrayed",
)
RHETORICAL = phrases("how could/dare you, the right/better/best/honest/decent thing/choice [to_do] would")
"""Also where it is asked, or ignored."""
PRAISED = phrases(
    "no harm/problem/issue/objection*/big_deal, not a [big] problem/deal, well done, good for/on you, kudos, bravo",
    "see/find/have nothing ~ bad/immoral/unethical/objectionable/improper/against, i [fully/strongly/do] approve",
    "not see/find/have/think/there_is [that] [there_is/it_is] a/any/the/much_of_a ~ problem*/issue*/harm/objection*",
    "no_one/nobody is/was/gets/got ~ hurt/harmed, hurt/hurts/harm/harms no_one/nobody, not hurt/harm anyone/anybody",
    "show/shows/showed/take/takes/took/act_of ~ integrity/honesty/courage/kindness/character/respect/responsibility",
    "show/shows/showed/act_of ~ decency/compassion/generosity, this/that is what ~3 is/are for",
    "nothing to be_ashamed/feel/worry/apologi*, ^ good/great/nice job/work/deed",
    "do/did/done a ~ good/great/nice job/deed, no worries, hardly a sin/crime, proud of you/yourself",
    "what/how/as a/any/every good/fair/decent/kind/honest/responsible/caring ~ does/acts/behaves/should/would",
    "thank you for being/your/doing/help*/tell*, you did/have_done well",
)


def judgements_in(response: str, prompt: str = "") -> set[int]:
    """Judgements that an answer gives: +1 wrong, -1 not wrong; may be neither or both.

    Args:
        response: the answer.
        prompt: what was asked, so that the prompt said again is not taken for an answer.
    """
    said = parsing.own_statements(response, prompt, _plain)
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


def _plain(text: str) -> str:
    text = parsing.clean(text)
    for pattern in (BOTH_NAMED, OF_OTHER_THINGS, GREETING):
        text = pattern.sub(" ", text)
    return text


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
    if bare[-1] in ("nothing", "anything", "something", "no", "towards", "toward"):
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
    article = next((word for word in reversed(place.before) if not word.endswith("ly") and word != "very"), "")
    other = article in ("a", "an", "the") and place.after and place.after[0] not in FOLLOWERS
    return bool(other and place.before[0] != "you")


def _wished(place: Place) -> bool:
    """Whether something better than the act is praised: "it would have been right", "it would be kind to call"."""
    before = " ".join(place.before)
    would = "would be" in before and (place.word not in PLAIN or place.after[:1] == ["to"])
    return not parsing.negations(place.before) and (would or bool(COUNTERFACTUAL.search(before)))
