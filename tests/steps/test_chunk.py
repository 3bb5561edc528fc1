"""Cutting texts into pieces: what is refused, what holds for any text, and where cuts fall."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.steps.transforms.chunking import Pieces, spans
from app.steps.transforms.clusters import inside_cluster
from app.steps.transforms.measures import estimated_tokens, measure
from app.steps.transforms.sentences import sentence_ends
from tests.steps.fakes import apply, refusal

SIGNS = ["a", "Zz", "é", "e\u0301", " ", "  ", "\n", "\r\n", "\n\n", ".", "! ", "? ", "Dr. ", "7", "# ", "- "]
FOREIGN = [
    "中",
    "。",
    "\uff0c",
    "क",
    "ा",
    "\U0001f468\u200d\U0001f469",
    "\U0001f1e9\U0001f1ea",
    "\u2029",
    "ش",
]
TEXTS = (
    st.lists(st.sampled_from(SIGNS + FOREIGN), max_size=120).map("".join)
    | st.text(alphabet=st.sampled_from("ab.!? \n"), max_size=300)
    | st.text(max_size=300)
)
BORDERS = st.sampled_from(["paragraph", "sentence", "word", "none"])
UNITS = st.sampled_from(["characters", "tokens"])
SIZES = st.integers(1, 40).flatmap(lambda size: st.tuples(st.just(size), st.integers(0, size // 2)))


def length(text: str, unit: str) -> int:
    return len(text) if unit == "characters" else estimated_tokens(text)


def texts_of(pieces: list[dict[str, Any]]) -> list[str]:
    return [piece["text"] for piece in pieces]


def sentences(text: str) -> list[str]:
    ends = [0, *sentence_ends(text), len(text)]
    return [text[start:end].strip() for start, end in itertools.pairwise(ends) if text[start:end].strip()]


# refused


@pytest.mark.parametrize(
    ("item", "complaint"),
    [
        ({"body": "x"}, "at 'text'"),
        ({"text": {"de": "x"}}, "was given an object"),
        ({"text": None}, "was given null"),
        (["x"], "was given a list"),
    ],
)
def test_what_holds_no_text_is_refused(item: Any, complaint: str) -> None:
    assert complaint in str(refusal("chunk", [item]))


# for any text


@given(TEXTS, UNITS, BORDERS, SIZES)
def test_pieces_without_their_overlaps_are_the_text(
    text: str, by: Any, border: Any, sizes: tuple[int, int]
) -> None:
    size, overlap = sizes
    reached, rebuilt = 0, ""
    for start, end in spans(text, Pieces(by=by, border=border, size=size, overlap=overlap)):
        assert start <= reached < end
        assert length(text[start:reached], by) <= overlap
        assert length(text[start:end], by) <= size
        rebuilt += text[reached:end]
        reached = end

    assert rebuilt == text


@given(TEXTS, UNITS, BORDERS, SIZES)
def test_pieces_start_later_than_the_ones_before_and_are_few(
    text: str, by: Any, border: Any, sizes: tuple[int, int]
) -> None:
    size, overlap = sizes
    found = list(spans(text, Pieces(by=by, border=border, size=size, overlap=overlap)))

    assert all(one[0] < after[0] for one, after in itertools.pairwise(found))
    assert len(found) <= 4 * len(text) // size + 1


@given(st.lists(TEXTS, max_size=3), UNITS, BORDERS, SIZES)
def test_every_piece_says_where_it_stands(
    texts: list[str], by: str, border: str, sizes: tuple[int, int]
) -> None:
    size, overlap = sizes
    pieces = apply("chunk", texts, by=by, border=border, size=size, overlap=overlap)

    for piece in pieces:
        assert texts[piece["document"]][piece["start"] : piece["end"]] == piece["text"]
        assert piece["text"].strip()
        assert length(piece["text"], by) <= size
    for document in range(len(texts)):
        own = [piece["index"] for piece in pieces if piece["document"] == document]
        assert own == list(range(len(own)))


@given(TEXTS, UNITS, st.integers(1, 40))
def test_nothing_is_lost_but_white_space(text: str, by: str, size: int) -> None:
    pieces = apply("chunk", text, by=by, size=size)

    assert "".join("".join(texts_of(pieces)).split()) == "".join(text.split())


@given(TEXTS, st.integers(0, 300), st.integers(0, 300))
def test_a_part_of_a_text_has_no_more_tokens_than_were_counted_for_it(
    text: str, start: int, count: int
) -> None:
    if not text or start >= len(text):
        return
    ruler = measure(text, "tokens")
    end = ruler.reach(start, count + 1)
    back = ruler.back(end, count)

    assert start < end
    assert estimated_tokens(text[start:end]) <= count + 1
    assert estimated_tokens(text[back:end]) <= count


# where cuts fall


@pytest.mark.parametrize(
    ("border", "pieces"),
    [
        ("paragraph", ["One two three.\n\n", "Four five. Six seven."]),
        ("sentence", ["One two three.\n\nFour five. ", "Six seven."]),
        ("word", ["One two three.\n\nFour five. Six ", "seven."]),
        ("none", ["One two three.\n\nFour five. Six se", "ven."]),
    ],
)
def test_a_cut_falls_at_the_best_border_that_is_wanted(border: str, pieces: list[str]) -> None:
    text = "One two three.\n\nFour five. Six seven."

    assert texts_of(apply("chunk", text, size=33, border=border)) == pieces


def test_a_cut_falls_inside_a_word_where_there_is_no_better_place() -> None:
    assert texts_of(apply("chunk", "abcdefghij", size=4)) == ["abcd", "efgh", "ij"]
    assert texts_of(apply("chunk", "One two. Three four five.", size=12)) == [
        "One two. ",
        "Three four ",
        "five.",
    ]


def test_an_overlap_begins_with_a_whole_word() -> None:
    assert texts_of(apply("chunk", "one two three four", size=10, overlap=5)) == [
        "one two ",
        "two three ",
        "four",
    ]


def test_an_entry_of_a_list_is_kept_whole_and_a_heading_with_what_follows() -> None:
    listed = "Bring these\n- a warm coat with a hood\n- good shoes"
    headed = "All of this is said before.\n\n# Tickets\n\nThey cost ten euros."

    assert texts_of(apply("chunk", listed, size=45)) == [
        "Bring these\n- a warm coat with a hood\n",
        "- good shoes",
    ]
    assert texts_of(apply("chunk", headed, size=44)) == [
        "All of this is said before.\n\n",
        "# Tickets\n\nThey cost ten euros.",
    ]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Dr. Smith met J. R. Brown. They left.", ["Dr. Smith met J. R. Brown.", "They left."]),
        ("See Fig. 3 and No. 120. It fits, e.g. here.", ["See Fig. 3 and No. 120.", "It fits, e.g. here."]),
        ("He said no. Then he left.", ["He said no.", "Then he left."]),
        ("In the U.S. Senate vs. The House.", ["In the U.S. Senate vs. The House."]),
        ("It was 1999. Nobody knew.", ["It was 1999.", "Nobody knew."]),
        ("Am 3. Mai, z. B. Montag, bzw. Dienstag. Ja!", ["Am 3. Mai, z. B. Montag, bzw. Dienstag.", "Ja!"]),
        ("Pi is 3.14, see example.com. Really? Yes!", ["Pi is 3.14, see example.com.", "Really?", "Yes!"]),
        ('"Stop!" he said. "Why?" (So.) End', ['"Stop!" he said.', '"Why?"', "(So.)", "End"]),
        ("Well... maybe. Wait… What?", ["Well... maybe.", "Wait…", "What?"]),
        (
            "人人平等。他们「自由。」吗\uff1f是\uff01",
            ["人人平等。", "他们「自由。」", "吗\uff1f", "是\uff01"],
        ),
        ("यह एक है। वह दो है।", ["यह एक है।", "वह दो है।"]),
        ("ما هذا؟ هذا كتاب.", ["ما هذا؟", "هذا كتاب."]),
    ],
)
def test_sentences_end_where_a_reader_would_end_them(text: str, found: list[str]) -> None:
    assert sentences(text) == found


@pytest.mark.parametrize(
    "character",
    [
        "e\u0301",
        "\U0001f468\u200d\U0001f469\u200d\U0001f467",
        "\U0001f1e9\U0001f1ea",
        "\U0001f44d\U0001f3fd",
        "\r\n",
    ],
)
def test_what_a_reader_takes_for_one_character_is_not_cut(character: str) -> None:
    text = character * 30
    cuts = [end for _, end in spans(text, Pieces(size=len(character) + 1, border="none"))]

    assert cuts == [len(character) * number for number in range(1, 31)]
    assert not any(inside_cluster(text, cut) for cut in cuts)


def test_tokens_are_counted_by_a_rule_that_needs_no_vocabulary() -> None:
    assert estimated_tokens("The cat sat on the mat.") == 7
    assert estimated_tokens("unbelievable 2024") == 3 + 1 + 4
    assert estimated_tokens("人人平等。") == 5
    assert estimated_tokens("") == 0
    assert texts_of(apply("chunk", "The cat sat on the mat.", by="tokens", size=4, border="word")) == [
        "The cat sat ",
        "on the mat.",
    ]


# documents


def test_documents_hand_what_they_have_besides_their_text_to_every_piece() -> None:
    documents = [
        {"id": "a", "text": "aa bb", "metadata": {"source": "x"}},
        {"id": "b", "text": "cc", "page": 4},
        "dd",
    ]

    assert apply("chunk", documents, size=3) == [
        {
            "text": "aa ",
            "index": 0,
            "start": 0,
            "end": 3,
            "metadata": {"id": "a", "source": "x"},
            "document": 0,
        },
        {
            "text": "bb",
            "index": 1,
            "start": 3,
            "end": 5,
            "metadata": {"id": "a", "source": "x"},
            "document": 0,
        },
        {"text": "cc", "index": 0, "start": 0, "end": 2, "metadata": {"id": "b", "page": 4}, "document": 1},
        {"text": "dd", "index": 0, "start": 0, "end": 2, "metadata": {}, "document": 2},
    ]


@pytest.mark.parametrize(
    ("document", "key", "metadata"),
    [
        ({"body": "x", "n": 1}, "body", {"n": 1}),
        ({"page": {"body": "x", "no": 2}, "n": 1}, "page.body", {"n": 1}),
        (
            {"id": "h", "score": 0.5, "metadata": {"text": "x", "s": 1}},
            "metadata.text",
            {"id": "h", "score": 0.5, "s": 1},
        ),
        ({"a.b": "x", "a": 1}, "a.b", {"a": 1}),
        ({"text": "x", "metadata": "none"}, "text", {}),
    ],
)
def test_the_text_itself_is_no_metadata_wherever_it_stands(
    document: dict[str, Any], key: str, metadata: dict[str, Any]
) -> None:
    [piece] = apply("chunk", document, key=key)

    assert (piece["text"], piece["metadata"]) == ("x", metadata)


def test_no_text_has_no_pieces() -> None:
    assert apply("chunk", "", None, [], [" \n"]) == []


@pytest.mark.timeout(30)
@pytest.mark.parametrize("by", ["characters", "tokens"])
@pytest.mark.parametrize(
    "text", ["word ", "x", " ", "\n", ".", ". ", "Mr. ", "(", "\u0301", "\U0001f1e9", "\n \n", "A. b"]
)
def test_two_million_characters_take_no_minutes_whatever_they_are(text: str, by: str) -> None:
    # Anything quadratic would.
    pieces = apply("chunk", text * (2_000_000 // len(text)), by=by, size=1_000, overlap=500)

    assert len(pieces) <= 2_000_000 // 250
