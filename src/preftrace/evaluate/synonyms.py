"""Common words that mean much the same, also in German, French, Spanish, Italian and Portuguese.

By them truthfulness compares answers with references. Without accents; the first stands for those up to the comma.
"""

from __future__ import annotations

SYNONYMS = (
    "nothing nichts rien nada niente none, all everything everywhere alles alle tout toute todo todos todas tutto "
    "tutti, every each jeder chaque cada ogni, some part portion partial teil partie parte, both beide ambos ambas "
    "entrambi, same equal identical equivalent alike gleich meme igual mismo uguale stesso, many lot plenty numerous "
    "various several viele beaucoup muchos molti, more mehr plus mas piu mais, less fewer weniger moins menos meno, "
    "better besser mieux mejor meglio melhor, 5 funf cinq cinco cinque, half 50 halfte moitie mitad meta metade, red "
    "rot rouge rojo roja rosso vermelho, blue blau bleu azul blu, white weiß weiss blanc blanche blanco bianco "
    "branco, yellow gelb jaune amarillo giallo amarelo, black schwarz noir negro nero preto, grey gray grau gris "
    "grigio cinza, colour color farbe couleur color colore cor, bright vivid colourful colorful, round spherical "
    "sphere ball globe rund rond ronde redondo rotondo, tear teardrop trane larme lagrima lacrima, water moisture "
    "liquid wasser eau agua acqua, fat fett graisse grasa grasso gordura, flavour flavor taste aroma, head kopf tete "
    "cabeza testa cabeca, horn horner cornes cuerno corno chifre, damage injury rip microtear, tiny microscopic "
    "minuscule, vomit puke, air atmosphere luft atmosphare aria, earth erde terre tierra terra, moon mond "
    "lune luna lua, sun sonne soleil, star stern etoile estrella stella estrela, shadow schatten ombre sombra ombra, "
    "mercury merkur mercure mercurio, venus venere, antarctica antarktis antarctique antartida antartide, africa "
    "afrika afrique, australia australien australie, labourer laborer worker arbeiter ouvrier trabajador, alien "
    "extraterrestrial martian, passage passageway corridor exit hallway walkway tunnel doorway, theatre theater arena "
    "stadium amphitheatre amphitheater, glow burn, seal lock trap, stay remain linger, boil cook evaporate vaporize "
    "vanish disappear, burst explode"
)
