"""One code per language, whatever a benchmark calls it: ISO 639-1 where it exists, else ISO 639-3."""

from __future__ import annotations

_PAIRS = """
abk:ab afr:af als:sq amh:am arb:ar asm:as azj:az bam:bm bel:be ben:bn bod:bo bre:br bul:bg cat:ca ces:cs
chu:cu cym:cy dan:da deu:de ell:el eng:en est:et eus:eu fao:fo fas:fa fin:fi fra:fr gaz:om gla:gd gle:ga
glg:gl grn:gn guj:gu hat:ht hau:ha hbs:sh heb:he hin:hi hrv:hr hun:hu hye:hy ibo:ig ind:id isl:is ita:it
jav:jv jp:ja jpn:ja kan:kn kat:ka kaz:kk khk:mn khm:km kin:rw kir:ky kor:ko lao:lo lat:la lav:lv lin:ln
lit:lt lug:lg lvs:lv mal:ml mar:mr mkd:mk mlt:mt mri:mi mya:my nld:nl nob:nb npi:ne nya:ny ory:or pan:pa
pbt:ps pes:fa plt:mg pol:pl por:pt ron:ro rus:ru san:sa sin:si slk:sk slv:sl sme:se sna:sn snd:sd som:so
sot:st spa:es sqi:sq srp:sr ssw:ss sun:su swe:sv swh:sw tam:ta tel:te tgk:tg tgl:tl tha:th tir:ti tsn:tn
tso:ts tur:tr uig:ug ukr:uk urd:ur uzb:uz uzn:uz vie:vi wol:wo xho:xh yor:yo zho:zh zsm:ms zul:zu
"""
"""ISO 639-3 code (for a macrolanguage with one usual member: that member) -> ISO 639-1; and XWinograd's ``jp``."""

_TWO_LETTERS = dict(pair.split(":") for pair in _PAIRS.split())

SECOND_SCRIPTS = {"arb_Latn", "ben_Latn", "hin_Latn", "npi_Latn", "sin_Latn", "urd_Latn", "zho_Hant"}
"""FLORES-200 codes of a language that is listed in its usual script as well."""

_FLORES = """
acm_Arab afr_Latn als_Latn amh_Ethi apc_Arab arb_Arab ars_Arab ary_Arab arz_Arab asm_Beng azj_Latn bam_Latn
ben_Beng bod_Tibt bul_Cyrl cat_Latn ceb_Latn ces_Latn ckb_Arab dan_Latn deu_Latn ell_Grek eng_Latn est_Latn
eus_Latn fin_Latn fra_Latn fuv_Latn gaz_Latn grn_Latn guj_Gujr hat_Latn hau_Latn heb_Hebr hin_Deva hrv_Latn
hun_Latn hye_Armn ibo_Latn ilo_Latn ind_Latn isl_Latn ita_Latn jav_Latn jpn_Jpan kac_Latn kan_Knda kat_Geor
kaz_Cyrl kea_Latn khk_Cyrl khm_Khmr kin_Latn kir_Cyrl kor_Hang lao_Laoo lin_Latn lit_Latn lug_Latn luo_Latn
lvs_Latn mal_Mlym mar_Deva mkd_Cyrl mlt_Latn mri_Latn mya_Mymr nld_Latn nob_Latn npi_Deva nso_Latn nya_Latn
ory_Orya pan_Guru pbt_Arab pes_Arab plt_Latn pol_Latn por_Latn ron_Latn rus_Cyrl shn_Mymr sin_Sinh slk_Latn
slv_Latn sna_Latn snd_Arab som_Latn sot_Latn spa_Latn srp_Cyrl ssw_Latn sun_Latn swe_Latn swh_Latn tam_Taml
tel_Telu tgk_Cyrl tgl_Latn tha_Thai tir_Ethi tsn_Latn tso_Latn tur_Latn ukr_Cyrl urd_Arab uzn_Latn vie_Latn
war_Latn wol_Latn xho_Latn yor_Latn zho_Hans zho_Hant zsm_Latn zul_Latn
"""
FLORES = tuple(_FLORES.split())
"""FLORES-200 languages that Belebele covers, in the scripts FLORES-200 has: the ones we ask SIB-200 for."""


def language(code: str) -> str:
    """One code for a language: ``deu_Latn``, ``deu`` and ``de`` -> ``de``; ``jp`` -> ``ja``;
    ``zho_Hant`` -> ``zh-Hant``; ``acm_Arab`` -> ``acm``.
    """
    base, _, script = code.partition("_")
    short = _TWO_LETTERS.get(base, base)
    return f"{short}-{script}" if code in SECOND_SCRIPTS else short
