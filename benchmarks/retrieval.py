"""Measure the knowledge base's search: ``.venv/bin/python benchmarks/retrieval.py FILE [--documents 20000]``.

FILE is JSON: ``{"corpus": {id: passage}, "queries": {id: question}, "qrels": {question id: {passage id: 1}}}``. Each
passage is one document; each question is asked as a caller's only turn. With ``--documents`` so many documents of 500
characters are made from the corpus's sentences, indexed from a folder, and searched: a test of size, not of quality.
Times and memory are those of a process that only searches, as a server's worker does.
"""

import argparse
import json
import math
import multiprocessing
import random
import re
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from knowledge.documents import list_sources  # noqa: E402
from knowledge.indexer import Index  # noqa: E402
from knowledge.live import LiveStore  # noqa: E402
from knowledge.passages import Passage  # noqa: E402
from knowledge.question import question  # noqa: E402
from knowledge.store import write  # noqa: E402

HITS = 10
DOCUMENT_CHARACTERS = 500
DOCUMENTS_A_FILE = 1_000


def main() -> None:
    """Index, ask, and print what it took; the last line tells the quality."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--documents", type=int, metavar="N", help="search N made-up documents instead")
    arguments = parser.parse_args()
    data = json.loads(arguments.file.read_text("utf-8"))
    queries, qrels = data["queries"], data["qrels"]
    with tempfile.TemporaryDirectory() as place:
        index_file = Path(place, "index")
        started = time.perf_counter()
        if arguments.documents:
            folder = Path(place, "documents")
            make_up_documents(list(data["corpus"].values()), arguments.documents, folder)
            started = time.perf_counter()
            count = Index(folder, index_file).build(list_sources(folder)).passages
        else:
            count = write(index_file, (Passage(id, "", id, text) for id, text in data["corpus"].items()))
        seconds = time.perf_counter() - started
        print(f"index: {count} passages in {seconds:.2f} s, {index_file.stat().st_size / 1e6:.1f} MB")
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as worker:
            found, times, megabytes = worker.submit(ask, index_file, list(queries.values())).result()
    times.sort()
    p50, p95, p99 = (1000 * times[len(times) * share // 100] for share in (50, 95, 99))
    print(f"query: p50 {p50:.2f} ms, p95 {p95:.2f} ms, p99 {p99:.2f} ms, {len(times)} questions")
    print(f"memory: {megabytes:.0f} MB at most in the process that searches")
    if not arguments.documents:
        scores = [score(hits, qrels.get(id, {})) for id, hits in zip(queries, found, strict=True)]
        gain, recall = (sum(column) / len(scores) for column in zip(*scores, strict=True))
        print(f"nDCG@10 {gain:.3f} recall@5 {recall:.3f}")


def ask(index_file: Path, questions: list[str]) -> tuple[list[list[str]], list[float], float]:
    """Return the ids found for each question, the seconds each took, and this process's peak memory in MB."""
    store = LiveStore(index_file)
    found, times = [], []
    for text in questions:
        started = time.perf_counter()
        hits = store.search(question([{"role": "user", "content": text}]), HITS)
        times.append(time.perf_counter() - started)
        found.append([hit.id for hit in hits])
    store.close()
    # getrusage would tell the peak of the process that started this one, if that is higher
    peak = re.findall(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())
    return found, times, int(peak[0]) / 1024


def score(hits: list[str], relevant: dict[str, int]) -> tuple[float, float]:
    """Return nDCG@10 and recall@5 of one ranking."""
    gain = sum(relevant.get(hit, 0) / math.log2(rank + 2) for rank, hit in enumerate(hits[:10]))
    ideal = sum(grade / math.log2(rank + 2) for rank, grade in enumerate(sorted(relevant.values(), reverse=True)[:10]))
    return gain / (ideal or 1.0), len(relevant.keys() & set(hits[:5])) / (len(relevant) or 1)


def make_up_documents(texts: list[str], count: int, folder: Path) -> None:
    """Write so many documents of 500 characters, of the texts' sentences in random order, the same every time."""
    chance = random.Random(0)
    sentences = [sentence for text in texts for sentence in re.findall(r"[^.!?。！？]+[.!?。！？]+\s*", text)]
    folder.mkdir()
    for first in range(0, count, DOCUMENTS_A_FILE):
        with Path(folder, f"{first:07}.jsonl").open("w", encoding="utf-8") as lines:
            for number in range(first, min(count, first + DOCUMENTS_A_FILE)):
                text = ""
                while len(text) < DOCUMENT_CHARACTERS:
                    text += chance.choice(sentences)
                record = {"title": f"Document {number}", "text": text[:DOCUMENT_CHARACTERS]}
                lines.write(json.dumps(record, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
