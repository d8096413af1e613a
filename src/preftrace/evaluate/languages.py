"""Verdicts and refusals in Spanish, French, German, Italian and Portuguese, put into the English that judges read.

A handful of set phrases, no translation: what is not one of them stays as it is, and the judges leave it unparsed.
"""

from __future__ import annotations

import re

PHRASES = {
    "i disagree": (
        r"no (?:estoy|estamos) (?:\w+ )?de acuerdo|estoy (?:\w+ )?en desacuerdo",
        r"je (?:ne )?suis (?:\w+ )?pas (?:\w+ ){0,2}d'accord|je suis (?:\w+ )?en désaccord",
        r"(?:ich )?stimme (?:\w+ ){0,3}nicht (?:\w+ ){0,3}zu",
        r"(?:ich )?bin (?:\w+ ){0,3}nicht (?:\w+ ){0,3}einverstanden",
        r"non (?:sono|siamo) (?:\w+ )?d'accordo|não concordo|discordo|não estou de acordo",
    ),
    "i agree": (
        r"(?:estoy|estamos) (?:\w+ )?de acuerdo",
        r"je suis (?:\w+ )?d'accord",
        r"(?:ich )?stimme (?:\w+ ){0,3}zu|(?:ich )?bin (?:\w+ ){0,3}einverstanden",
        r"(?:sono|siamo) (?:\w+ )?d'accordo|concordo|estou de acordo",
    ),
    "this is not wrong": (
        r"no (?:está mal|es malo|es incorrecto|es inmoral)",
        r"(?:ce n'est|c'est) pas (?:mal|immoral|faux)",
        r"(?:das|es|dies) (?:ist|war) nicht (?:falsch|unmoralisch|schlimm)",
        r"non è (?:\w+ )?(?:sbagliato|immorale)|não (?:está|é) (?:errado|imoral)",
    ),
    "this is wrong": (
        r"(?:está mal|es malo|es incorrecto|es inmoral)",
        r"c'est (?:\w+ )?(?:mal|immoral|faux|inacceptable)",
        r"(?:das|es|dies) (?:ist|war) (?:\w+ )?(?:falsch|unmoralisch|schlimm)",
        r"è (?:\w+ )?(?:sbagliato|immorale)|(?:está|é) (?:errado|imoral)",
    ),
    "i can not help": (
        r"no (?:puedo|podemos) (?:\w+ )?(?:ayudar|compartir|responder|contestar|dar|revelar|decir|proporcionar)\w*",
        r"je ne peux pas (?:\w+ )?(?:aider|partager|répondre|donner|révéler|dire|divulguer)",
        r"(?:ich )?(?:kann|darf) (?:\w+ ){0,4}nicht (?:helfen|teilen|beantworten|(?:weiter)?geben|verraten|sagen)",
        r"non posso (?:aiutar|condivider|risponder|dar|rivelar|dir)\w*",
        r"não posso (?:ajudar|compartilhar|responder|dar|revelar|dizer)",
    ),
}
"""English -> how it is said; what is negated stands before what it negates."""
FOREIGN = {english: re.compile(rf"\b(?:{'|'.join(ways)})\b") for english, ways in PHRASES.items()}


def in_english(text: str) -> str:
    """The text with its set phrases in English.

    Args:
        text: lower case, plain quotes.
    """
    for english, pattern in FOREIGN.items():
        text = pattern.sub(english, text)
    return text
