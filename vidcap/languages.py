"""Language codes: ISO 639-1 (what recognisers and identifiers say) to what SeamlessM4T calls its text languages."""

from __future__ import annotations

# Code, Seamless text code (ISO 639-3, with a script where there are two), English name. Where Seamless has only one
# variety of a macrolanguage, that one stands here (ar arb, zh cmn, fa pes, no nob, ms zsm, sw swh, et est, lv lvs,
# mn khk, uz uzn, az azj, ps pbt, ne npi, or ory, tl tgl); ku ckb is an approximation: most Kurdish text is Kurmanji.
_TABLE = """
af afr Afrikaans|am amh Amharic|ar arb Arabic|arz arz Egyptian Arabic|as asm Assamese|az azj Azerbaijani
be bel Belarusian|bg bul Bulgarian|bn ben Bengali|bs bos Bosnian|ca cat Catalan|ceb ceb Cebuano|ckb ckb Central Kurdish
cs ces Czech|cy cym Welsh|da dan Danish|de deu German|el ell Greek|en eng English|es spa Spanish|et est Estonian
eu eus Basque|fa pes Persian|fi fin Finnish|fr fra French|ga gle Irish|gl glg Galician|gu guj Gujarati|he heb Hebrew
hi hin Hindi|hr hrv Croatian|hu hun Hungarian|hy hye Armenian|id ind Indonesian|is isl Icelandic|it ita Italian
ja jpn Japanese|jv jav Javanese|ka kat Georgian|kk kaz Kazakh|km khm Khmer|kn kan Kannada|ko kor Korean|ku ckb Kurdish
ky kir Kyrgyz|lo lao Lao|lt lit Lithuanian|lv lvs Latvian|mai mai Maithili|mk mkd Macedonian|ml mal Malayalam
mn khk Mongolian|mr mar Marathi|ms zsm Malay|mt mlt Maltese|my mya Burmese|ne npi Nepali|nl nld Dutch
nn nno Norwegian Nynorsk|no nob Norwegian|or ory Odia|pa pan Punjabi|pl pol Polish|ps pbt Pashto|pt por Portuguese
ro ron Romanian|ru rus Russian|sd snd Sindhi|sh hrv Serbo-Croatian|sk slk Slovak|sl slv Slovenian|so som Somali
sr srp Serbian|sv swe Swedish|sw swh Swahili|ta tam Tamil|te tel Telugu|tg tgk Tajik|th tha Thai|tl tgl Tagalog
tr tur Turkish|uk ukr Ukrainian|ur urd Urdu|uz uzn Uzbek|vi vie Vietnamese|yo yor Yoruba|yue yue Cantonese
zh cmn Chinese
"""
# The other languages that lid.176 names: no text languages of Seamless.
_OTHERS = """
als Alemannic|an Aragonese|ast Asturian|av Avar|azb South Azerbaijani|ba Bashkir|bar Bavarian|bcl Central Bikol
bh Bihari|bo Tibetan|bpy Bishnupriya|br Breton|bxr Buryat|cbk Chavacano|ce Chechen|co Corsican|cv Chuvash|diq Zazaki
dsb Lower Sorbian|dty Doteli|dv Dhivehi|eml Emilian-Romagnol|eo Esperanto|frr North Frisian|fy West Frisian
gd Scottish Gaelic|gn Guarani|gom Goan Konkani|gv Manx|hif Fiji Hindi|hsb Upper Sorbian|ht Haitian Creole
ia Interlingua|ie Interlingue|ilo Ilocano|io Ido|jbo Lojban|krc Karachay-Balkar|kv Komi|kw Cornish|la Latin
lb Luxembourgish|lez Lezgian|li Limburgish|lmo Lombard|lrc Northern Luri|mg Malagasy|mhr Meadow Mari|min Minangkabau
mrj Hill Mari|mwl Mirandese|myv Erzya|mzn Mazanderani|nah Nahuatl|nap Neapolitan|nds Low German|new Newar|oc Occitan
os Ossetian|pam Kapampangan|pfl Palatine German|pms Piedmontese|pnb Western Punjabi|qu Quechua|rm Romansh|rue Rusyn
sa Sanskrit|sah Yakut|sc Sardinian|scn Sicilian|sco Scots|si Sinhala|sq Albanian|su Sundanese|tk Turkmen|tt Tatar
tyv Tuvan|ug Uyghur|vec Venetian|vep Veps|vls West Flemish|vo Volapük|wa Walloon|war Waray|wuu Wu Chinese|xal Kalmyk
xmf Mingrelian|yi Yiddish
"""
_ENTRIES = [entry.split(" ", 2) for line in _TABLE.strip().splitlines() for entry in line.split("|")]

SEAMLESS: dict[str, str] = {code: seamless for code, seamless, _ in _ENTRIES}
"""ISO 639-1 (639-3 where there is none) → SeamlessM4T's text code. What is not here it does not translate from."""

_NAMES = {code: name for code, _, name in _ENTRIES} | dict(
    entry.split(" ", 1) for line in _OTHERS.strip().splitlines() for entry in line.split("|")
)


def seamless_code(language: str) -> str | None:
    """SeamlessM4T's text code of a language, or None where it has no such text language."""
    return SEAMLESS.get(language)


def is_language(language: str, target: str) -> bool:
    """Whether the identifier's code `language` names the language `target` (a Seamless or ISO 639-3 code, `eng`)."""
    return bool(target) and target in (language, SEAMLESS.get(language))


def english_name(language: str) -> str:
    """`French` for `fr`; the code itself where no name is known."""
    return _NAMES.get(language, language)


def is_named(language: str) -> bool:
    """Whether the code is one that language identification (lid.176) gives, so that its name can be said."""
    return language in _NAMES
