from prefkit.cli.reporters import Lines


def test_log_lines_come_at_most_every_five_seconds() -> None:
    now, lines = 0.0, list[str]()
    report = Lines(lines.append, clock=lambda: now)
    report.stage("sample", 3_000, 2_000)
    for _ in range(12):
        now += 1.0
        report.advance(100)
    report.stage("score", 3_000, 0)
    assert lines == [
        "sample: 3,000 planned, 2,000 to do",
        "sample: 500 of 2,000",
        "sample: 1,000 of 2,000",
        "score: 3,000 planned, 0 to do",
    ]
