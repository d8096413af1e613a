"""Verdicts and refusals in eight other languages, put into the English that judges read.

A handful of set phrases, no translation: what is not one of them stays as it is, and the judges leave it unparsed.
Spanish, French, German, Italian and Portuguese; a few of Dutch, Russian and Chinese.
"""

from __future__ import annotations

import re


def _bounded(way: str) -> str:
    """Whole words only, but for a script that puts no spaces between them."""
    return way if way[0] in "我这同" else rf"\b(?:{way})\b"


_TELL_DE = (
    r"(?:helfen|teilen|beantworten|(?:weiter|heraus|preis)?geben|verraten|sagen|äussern|beurteilen|"
    r"kommentieren|urteilen|nennen)"
)
PHRASES = (
    (
        "i disagree",
        r"no (?:estoy|estamos) (?:\w+ ){0,2}de acuerdo|estoy (?:\w+ )?en desacuerdo|no lo creo",
        r"je ne partage pas|je (?:ne )?suis (?:\w+ )?pas (?:\w+ ){0,3}d'accord|je suis (?:\w+ )?en désaccord|"
        r"je ne (?:le )?(?:crois|pense) pas",
        r"(?:ich )?stimme (?:\w+ ){0,3}nicht (?:\w+ ){0,3}zu|(?:ich )?bin (?:\w+ ){0,3}(?:nicht (?:\w+ ){0,3}"
        r"einverstanden|anderer meinung|dagegen)|das (?:(?:glaube|finde|denke) ich nicht|sehe ich anders)",
        r"non (?:sono|siamo) (?:\w+ )?d'accordo|dissento|não concordo|discordo|não estou de acordo|não acho",
        r"(?:ik )?ben het (?:\w+ ){0,2}(?:niet (?:\w+ )?(?:mee )?eens|mee oneens)|не согласен|не согласна",
        r"我?不(?:太)?同意|同意しません",
    ),
    (
        "i agree",
        r"(?:estoy|estamos) (?:\w+ ){0,2}de acuerdo",
        r"je suis (?:[\wà]+ ){0,3}d'accord",
        r"(?:ich )?stimme (?:\w+ ){0,3}zu|(?:ich )?bin (?:\w+ ){0,3}(?:einverstanden|derselben meinung|dafür)",
        r"(?:sono|siamo) (?:\w+ )?d'accordo|concordo|estou (?:\w+ )?de acordo",
        r"(?:ik )?ben het (?:\w+ ){0,3}eens|согласен|согласна",
        r"我?同意",
    ),
    (
        "this is not wrong",
        r"no (?:está mal|es malo|es incorrecto|es inmoral)|no (?:tiene|hay|veo) nada (?:de )?malo",
        r"(?:ce n'est|c'est) pas (?:mal|immoral|faux)|(?:il n'y a )?rien de mal",
        r"(?:das|es|dies|daran) (?:ist|war) (?:nicht (?:falsch|unmoralisch|schlimm|verwerflich)|nichts (?:falsch|"
        r"verkehrt)\w*)",
        r"non è (?:\w+ )?(?:sbagliato|immorale|male)|não (?:está|é) (?:errado|imoral)|не (?:плохо|неправильно)",
        r"这?(?:没有?错|不是错)",
    ),
    (
        "it is wrong",
        r"no (?:está|estuvo|es|fue) (?:nada )?(?:bien|correcto|aceptable|ético|justo)",
        r"ce n'est pas (?:bien|acceptable|correct|éthique|normal|juste)",
        r"(?:das|es|dies) (?:ist|war) (?:\w+ )?nicht (?:richtig|in ordnung|okay|akzeptabel|gut|fair)",
        r"non (?:è|va) (?:giusto|bene|corretto|accettabile)|não (?:está|é|foi) (?:certo|correto|aceitável)|это "
        r"(?:неправильно|плохо)",
    ),
    (
        "this is wrong",
        r"(?:está|estuvo) (?:muy )?mal|(?:es|fue) (?:\w+ )?(?:malo|incorrecto|inmoral|inaceptable)",
        r"c'(?:est|était) (?:\w+ )?(?:mal|immoral|faux|inacceptable)",
        r"(?:das|es|dies) (?:ist|war) (?:\w+ )?(?:falsch|unmoralisch|schlimm|verwerflich|inakzeptabel)",
        r"è (?:stato )?(?:\w+ )?(?:sbagliato|immorale)|(?:está|é|foi) (?:\w+ )?(?:errado|imoral)|(?:dat|dit) is "
        r"(?:verkeerd|fout)",
        r"这(?:是|样做是)?(?:错|不对|不道德)",
    ),
    (
        "it is not wrong",
        r"(?:está|estuvo) (?:muy )?bien|(?:es|fue) (?:\w+ )?(?:correcto|aceptable)|hiciste (?:lo correcto|bien)",
        r"c'(?:est|était) (?:\w+ )?(?:bien|acceptable|correct)|tu as bien fait",
        r"(?:das|es|dies) (?:ist|war) (?:\w+ )?(?:in ordnung|akzeptabel)",
        r"va bene|è (?:\w+ )?giusto|está certo|tudo bem|это нормально",
    ),
    (
        "this is not true",
        r"no es (?:verdad|cierto)|ce n'est pas vrai|(?:das|es) (?:ist nicht wahr|stimmt (?:\w+ )?nicht)|non è vero|"
        r"não é verdade",
        r"这不是真的",
    ),
    ("this is true", r"es (?:verdad|cierto)|c'est vrai|das (?:stimmt|ist wahr)|è vero|é verdade"),
    (
        "this is confidential",
        r"(?:das|es|diese \w+) ist (?:\w+ )?(?:vertraulich|privat|geheim)|es (?:\w+ )?(?:confidencial|privad[oa])",
        r"c'est (?:\w+ )?(?:confidentiel|privé|personnel)|(?:è|é) (?:\w+ )?(?:riservat[oa]|privat[oa]|confidenziale|"
        r"privad[oa])",
    ),
    (
        "i do not know",
        r"no (?:lo )?s[eé]\b|no tengo (?:ni )?idea|je ne (?:le )?sais pas|je n'en sais rien|aucune idée",
        r"(?:das )?wei(?:ß|ss) ich (?:\w+ )?nicht|ich wei(?:ß|ss) (?:\w+ )?nicht|keine ahnung|non (?:lo )?so\b|"
        r"non ne ho idea|não sei\b|não faço ideia|ik weet (?:het )?niet|(?:я )?не знаю",
        r"我(?:不知道|不清楚|不确定)",
    ),
    (
        "i can not help",
        r"no (?:puedo|podemos|debo|quiero|deseo)(?! (?:creer|estar))|prefiero no \w+",
        r"je ne (?:peux|veux|souhaite|dois) pas(?! (?:croire|être))|je préfère ne pas",
        rf"(?:kann|darf|möchte|will|werde) (?:\w+ ){{0,6}}nicht (?:\w+ )?{_TELL_DE}",
        r"non (?:posso|voglio|devo)(?! (?:credere|essere))|preferisco non|"
        r"não (?:posso|vou|quero|devo)(?! (?:crer|estar))",
        r"(?:ik )?kan (?:\w+ ){0,3}niet|не могу",
        r"我(?:不能|无法|不会)(?:回答|评论|分享|帮|提供|告诉)",
    ),
)
"""English, and how it is said; tried in this order, what is negated before what it negates."""
FOREIGN = tuple((english, re.compile("|".join(map(_bounded, ways)))) for english, *ways in PHRASES)


def in_english(text: str) -> str:
    """The text with its set phrases in English.

    Args:
        text: lower case, plain quotes.
    """
    for english, pattern in FOREIGN:
        text = pattern.sub(f" {english} ", text)
    return text
