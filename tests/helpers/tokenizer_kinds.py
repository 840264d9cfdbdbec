"""Small tokenizers of the common kinds, trained on sentences made here, and those sentences."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import cache

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

SPECIAL = ["<unk>", "<s>", "</s>", "<pad>"]
BYTES = [f"<0x{i:02X}>" for i in range(256)]

# (words of a language, what stands between them)
WORDS = {
    "en": ("turn on off the lamp kitchen bedroom please close door it's don't warmer 21 degrees, now quietly", " "),
    "zh": ("打开 关闭 厨房 卧室 的 灯 请 把 门 ，温度 二十 度 现在 安静 地", ""),
    "ja": ("キッチン 寝室 の 電気 を つけて 消して ください 、 ドア 閉めて 今 静か に", ""),
    "th": ("เปิด ปิด ไฟ ใน ห้อง ครัว ห้องนอน กรุณา ประตู ตอนนี้ เบา ๆ ที่", ""),
    "ar": ("شغّل أطفئ المصباح في المطبخ غرفة النوم من فضلك الباب الآن، بهدوء", " "),
    "ko": ("부엌 침실 의 불을 켜 꺼 주세요 문을 닫아 지금 조용히", " "),
    "hi": ("रसोई शयनकक्ष की बत्ती जलाओ बुझाओ कृपया दरवाज़ा बंद अभी धीरे", " "),
}
LANGUAGES = list(WORDS)


def sentence(rng: random.Random, lang: str, low: int = 3, high: int = 9) -> str:
    words, between = WORDS[lang]
    return between.join(rng.choices(words.split(), k=rng.randint(low, high)))


def sentences(count: int = 60) -> list[str]:
    rng = random.Random(0)
    return [sentence(rng, lang) for _ in range(count) for lang in LANGUAGES]


def _byte(prefix: bool = False, across: bool = False) -> tuple[Tokenizer, trainers.Trainer]:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix, use_regex=not across)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    limit = {"max_token_length": 12} if across else {}
    return tokenizer, trainers.BpeTrainer(vocab_size=700, special_tokens=SPECIAL, initial_alphabet=alphabet, **limit)


def _llama() -> tuple[Tokenizer, trainers.Trainer]:
    """Llama 2: a space before every text, no splitting at words, bytes for what is unknown."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    decoder = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    tokenizer.decoder = decoders.Sequence(decoder)
    limit = {"limit_alphabet": 60, "max_token_length": 10}
    return tokenizer, trainers.BpeTrainer(vocab_size=700, special_tokens=SPECIAL + BYTES, **limit)


def _metaspace_bpe() -> tuple[Tokenizer, trainers.Trainer]:
    """As newer conversions of Llama: the space is put by the pre-tokenizer, once."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace(prepend_scheme="first")])
    limit = {"limit_alphabet": 60, "max_token_length": 10}
    return tokenizer, trainers.BpeTrainer(vocab_size=700, special_tokens=SPECIAL + BYTES, **limit)


def _unigram() -> tuple[Tokenizer, trainers.Trainer]:
    """As XLM-R and Gemma's relatives: Unigram, a space before every text, NFKC."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace("  ", " ")])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="always")
    return tokenizer, trainers.UnigramTrainer(vocab_size=500, special_tokens=SPECIAL, unk_token="<unk>")


def _wordpiece() -> tuple[Tokenizer, trainers.Trainer]:
    tokenizer = Tokenizer(models.WordPiece(unk_token="<unk>"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    return tokenizer, trainers.WordPieceTrainer(vocab_size=700, special_tokens=SPECIAL)


KINDS: dict[str, Callable[[], tuple[Tokenizer, trainers.Trainer]]] = {
    "byte": _byte,
    "byte-prefix-space": lambda: _byte(prefix=True),
    "byte-across-words": lambda: _byte(across=True),
    "llama": _llama,
    "metaspace-bpe": _metaspace_bpe,
    "unigram": _unigram,
    "wordpiece": _wordpiece,
}


def tokenizer_of(kind: str, bos: bool = True) -> PreTrainedTokenizerFast:
    """``bos``: whether it puts BOS before a text; one that does not has none."""
    return _tokenizer_of(kind, bos)


@cache  # training breaks ties differently each time, so that nobody may train twice
def _tokenizer_of(kind: str, bos: bool) -> PreTrainedTokenizerFast:
    tokenizer, trainer = KINDS[kind]()
    trainer.show_progress = False
    tokenizer.train_from_iterator(sentences(), trainer)
    if bos:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", tokenizer.token_to_id("<s>"))]
        )
    names = {"eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>", **({"bos_token": "<s>"} if bos else {})}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=256, name_or_path=kind, **names)
