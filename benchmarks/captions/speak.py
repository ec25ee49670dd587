"""Speech for the calibration, synthesised with the `flite` and `espeak-ng` programs: two halves that share no voice.

    python benchmarks/captions/speak.py FOLDER [--seed 3]

writes FOLDER/{fit,report}/{program}-{voice}/{number}.wav. A voice of espeak-ng is a language and a variant (a vocal
tract); pitch and speed differ from sentence to sentence. The same seed gives the same files with the same programs.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import numpy as np

ENGLISH = (
    "the boat leaves the harbour before the sun is up",
    "please put the green cup beside the window",
    "nobody knew that the road would be so long",
    "in the evening we sat together and told stories",
    "turn the handle slowly and wait for the light",
    "there are seven good reasons to take the early train",
    "my sister paints the fence while I repair the roof",
    "this machine counts bottles as they pass by",
    "welcome back, today we bake bread without yeast",
    "the results were better than anyone had expected",
    "have you ever asked yourself why cats sleep so much?",
    "first we cut the paper, then we fold it twice",
    "no, that is not what I meant at all",
    "thank you all for coming, it means a lot to us",
    "the bridge was closed for repairs in nineteen sixty two",
    "oh look, there is another one right behind you!",
    "when the water boils, add a little salt and the noodles",
    "he shook his head and walked away without a word",
    "our third question comes from a school in the mountains",
    "keep your back straight and breathe out slowly",
)

FOREIGN = {
    "de": (
        "Das Boot fährt vor Sonnenaufgang aus dem Hafen.",
        "Stell bitte die grüne Tasse neben das Fenster.",
        "Warum schläft die Katze den ganzen Tag?",
        "Heute backen wir ein Brot ohne Hefe.",
    ),
    "fr": (
        "Le bateau quitte le port avant le lever du jour.",
        "Pose la tasse verte près de la fenêtre.",
        "Pourquoi le chat dort-il toute la journée ?",
        "Nous avons raconté des histoires toute la soirée.",
    ),
    "pl": (
        "Łódź wypływa z portu przed wschodem słońca.",
        "Postaw zielony kubek obok okna.",
        "Dlaczego kot śpi przez cały dzień?",
        "Wieczorem opowiadaliśmy sobie historie.",
    ),
    "tr": (
        "Tekne güneş doğmadan limandan ayrılıyor.",
        "Lütfen yeşil fincanı pencerenin yanına koy.",
        "Kedi neden bütün gün uyuyor?",
        "Akşam birlikte oturup hikâyeler anlattık.",
    ),
    "cmn": (
        "太阳升起之前，船就离开了港口。",
        "请把绿色的杯子放在窗户旁边。",
        "为什么猫整天都在睡觉？",
        "今天我们不用酵母做面包。",
    ),
    "hi": (
        "सूरज निकलने से पहले नाव बंदरगाह छोड़ देती है।",
        "हरा कप खिड़की के पास रख दो।",
        "बिल्ली सारा दिन क्यों सोती है?",
        "शाम को हमने कहानियाँ सुनाईं।",
    ),
    "es": (
        "El barco sale del puerto antes de que salga el sol.",
        "Pon la taza verde junto a la ventana.",
        "¿Por qué duerme el gato todo el día?",
        "Hoy hacemos pan sin levadura.",
    ),
    "it": (
        "La barca lascia il porto prima dell'alba.",
        "Metti la tazza verde accanto alla finestra.",
        "Perché il gatto dorme tutto il giorno?",
        "La sera ci siamo raccontati delle storie.",
    ),
    "ru": (
        "Лодка выходит из гавани до восхода солнца.",
        "Поставь зелёную чашку рядом с окном.",
        "Почему кошка спит весь день?",
        "Вечером мы сидели вместе и рассказывали истории.",
    ),
    "nl": (
        "De boot verlaat de haven voordat de zon opkomt.",
        "Zet de groene kop naast het raam.",
        "Waarom slaapt de kat de hele dag?",
        "Vandaag bakken we brood zonder gist.",
    ),
    "sv": (
        "Båten lämnar hamnen innan solen går upp.",
        "Ställ den gröna koppen bredvid fönstret.",
        "Varför sover katten hela dagen?",
        "På kvällen satt vi och berättade historier.",
    ),
    "pt": (
        "O barco sai do porto antes de o sol nascer.",
        "Põe a chávena verde ao lado da janela.",
        "Porque é que o gato dorme o dia todo?",
        "Hoje fazemos pão sem fermento.",
    ),
}

HALVES = {
    "fit": (("slt", "awb"), ("en-us", "de", "fr", "pl", "tr", "cmn"), ("m1", "m3", "m5", "m7", "f1", "f3", "f5")),
    "report": (
        ("rms", "kal", "kal16"),
        ("en-gb", "es", "it", "ru", "nl", "sv", "pt", "hi"),
        ("m2", "m4", "m6", "f2", "f4"),
    ),
}
"""Voices of flite (`kal` and `kal16` are one man), and languages and variants of espeak-ng."""

VARIANTS_A_LANGUAGE = 3


def speak(folder: Path, seed: int) -> int:
    """Writes all files and returns how many."""
    count = 0
    for half, (voices, languages, variants) in HALVES.items():
        random = np.random.default_rng([seed, sorted(HALVES).index(half)])
        for voice in voices:
            for number, sentence in enumerate(ENGLISH):
                stretch = f"duration_stretch={random.uniform(0.8, 1.25):.2f}"
                out = place(folder, half, f"flite-{voice}", number)
                run("flite", "-voice", voice, "--setf", stretch, "-t", sentence, "-o", str(out))
                count += 1
        for language in languages:
            sentences = FOREIGN.get(language, ENGLISH[:8])
            for variant in random.choice(variants, VARIANTS_A_LANGUAGE, replace=False):
                for number, sentence in enumerate(sentences):
                    pitch, speed = str(random.integers(25, 80)), str(random.integers(115, 215))
                    out = place(folder, half, f"espeak-{language}-{variant}", number)
                    run("espeak-ng", "-v", f"{language}+{variant}", "-p", pitch, "-s", speed, "-w", str(out), sentence)
                    count += 1
    return count


def place(folder: Path, half: str, voice: str, number: int) -> Path:
    """Where a sentence goes; its folder exists afterwards."""
    out = folder / half / voice / f"{number:02}.wav"
    out.parent.mkdir(parents=True, exist_ok=True)
    return out


def run(*command: str) -> None:
    try:
        subprocess.run(command, check=True)
    except FileNotFoundError:
        sys.exit(f"the program `{command[0]}` is missing; install the system packages flite and espeak-ng")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=3)
    options = parser.parse_args()
    print(f"wrote {speak(options.folder, options.seed)} files to {options.folder}")


if __name__ == "__main__":
    main()
