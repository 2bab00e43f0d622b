import json
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
SET = {
    "corpus": {"a": "The warranty lasts two years.", "b": "Shipping is free in Europe.", "c": "七天内可以退货。"},
    "queries": {
        "1": "How long does the warranty last?",
        "2": "是否可以退货？",
        "3": "Who invented shipping?",
        "4": "tea",
    },
    "qrels": {"1": {"a": 1}, "2": {"c": 1}, "3": {"b": 1}, "4": {"a": 1}},
}


def run(tmp_path: Path, *arguments: str) -> list[str]:
    file = tmp_path / "set.json"
    file.write_text(json.dumps(SET))
    command = [sys.executable, "benchmarks/retrieval.py", str(file), *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()


def test_the_last_line_tells_the_quality(tmp_path: Path) -> None:
    lines = run(tmp_path)

    assert lines[-1] == "nDCG@10 0.750 recall@5 0.750"
    assert re.fullmatch(r"index: 3 passages in \d+\.\d\d s, \d+\.\d MB", lines[0])
    assert re.fullmatch(r"query: p50 .* ms, p95 .* ms, p99 .* ms, 4 questions", lines[1])
    assert re.fullmatch(r"memory: \d+ MB at most in the process that searches", lines[2])


def test_made_up_documents_test_the_size(tmp_path: Path) -> None:
    lines = run(tmp_path, "--documents", "1500")

    assert lines[0].startswith("index: 1500 passages in ")
    assert len(lines) == 3
