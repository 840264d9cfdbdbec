"""Write ``lamps.jsonl``: what people say to a house, in four languages, as a data set of one's own may look."""

import itertools
import json
from pathlib import Path

ROOMS = {
    "kitchen": {"en": "kitchen", "de": "Küche", "fr": "cuisine", "it": "cucina"},
    "garden": {"en": "garden", "de": "Garten", "fr": "jardin", "it": "giardino"},
    "bath": {"en": "bathroom", "de": "Bad", "fr": "salle de bain", "it": "bagno"},
    "study": {"en": "study", "de": "Arbeitszimmer", "fr": "bureau", "it": "studio"},
    "hall": {"en": "hall", "de": "Flur", "fr": "couloir", "it": "corridoio"},
    "cellar": {"en": "cellar", "de": "Keller", "fr": "cave", "it": "cantina"},
}
SENTENCES = {
    "light_on": {
        "en": ["turn on the light: {room}", "{room}: I need light", "make it bright, {room}"],
        "de": ["mach das Licht an: {room}", "{room}: ich brauche Licht", "mach es hell, {room}"],
        "fr": ["allume la lumière : {room}", "{room} : il me faut de la lumière", "plus clair, {room}"],
        "it": ["accendi la luce: {room}", "{room}: mi serve luce", "più chiaro, {room}"],
    },
    "light_off": {
        "en": ["turn off the light: {room}", "{room}: no more light", "make it dark, {room}"],
        "de": ["mach das Licht aus: {room}", "{room}: kein Licht mehr", "mach es dunkel, {room}"],
        "fr": ["éteins la lumière : {room}", "{room} : plus de lumière du tout", "plus sombre, {room}"],
        "it": ["spegni la luce: {room}", "{room}: niente più luce", "più scuro, {room}"],
    },
    "heat_up": {
        "en": ["it is too cold: {room}", "{room}: turn up the heating", "warmer please, {room}"],
        "de": ["es ist zu kalt: {room}", "{room}: dreh die Heizung auf", "bitte wärmer, {room}"],
        "fr": ["il fait trop froid : {room}", "{room} : monte le chauffage", "plus chaud s'il te plaît, {room}"],
        "it": ["fa troppo freddo: {room}", "{room}: alza il riscaldamento", "più caldo per favore, {room}"],
    },
    "heat_down": {
        "en": ["it is too hot: {room}", "{room}: turn down the heating", "cooler please, {room}"],
        "de": ["es ist zu heiß: {room}", "{room}: dreh die Heizung runter", "bitte kühler, {room}"],
        "fr": ["il fait trop chaud : {room}", "{room} : baisse le chauffage", "plus frais s'il te plaît, {room}"],
        "it": ["fa troppo caldo: {room}", "{room}: abbassa il riscaldamento", "più fresco per favore, {room}"],
    },
    "window_open": {
        "en": ["open the window: {room}", "{room}: let some air in", "fresh air, {room}"],
        "de": ["öffne das Fenster: {room}", "{room}: lass Luft herein", "frische Luft, {room}"],
        "fr": ["ouvre la fenêtre : {room}", "{room} : laisse entrer l'air", "de l'air frais, {room}"],
        "it": ["apri la finestra: {room}", "{room}: fai entrare aria", "aria fresca, {room}"],
    },
    "window_close": {
        "en": ["close the window: {room}", "{room}: keep the wind out", "no draught, {room}"],
        "de": ["schließ das Fenster: {room}", "{room}: lass den Wind draußen", "keine Zugluft, {room}"],
        "fr": ["ferme la fenêtre : {room}", "{room} : garde le vent dehors", "pas de courant d'air, {room}"],
        "it": ["chiudi la finestra: {room}", "{room}: tieni fuori il vento", "niente correnti, {room}"],
    },
}
POLITE = {
    "en": ["", "please, ", "hey, "],
    "de": ["", "bitte, ", "hallo, "],
    "fr": ["", "allez, ", "dis, "],
    "it": ["", "dai, ", "senti, "],
}

with Path("lamps.jsonl").open("w", encoding="utf-8") as file:
    for (label, said), (room, names), way, manner in itertools.product(
        SENTENCES.items(), ROOMS.items(), range(3), range(3)
    ):
        for lang, sentences in said.items():
            text = POLITE[lang][manner] + sentences[way].format(room=names[lang])
            row = {"text": text, "lang": lang, "label": label, "meaning": f"{label}/{room}/{way}/{manner}"}
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
