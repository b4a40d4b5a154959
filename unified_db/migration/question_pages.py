"""What a person reads who is asked about the switch: what is decided, on which evidence, and how.

Pure: a run's account in, Markdown out.
"""

from __future__ import annotations

from unified_db.migration import markdown, wording
from unified_db.migration.account import Account
from unified_db.migration.records import Question

_SHOWN_CHARS = 12


def page(account: Account) -> str:
    """The question with both ways to answer it, or what was decided; empty where nothing was asked."""
    question, decision = account.question, account.decision
    if question is None:
        return ""
    if decision is not None:
        said = decision.sentence()
        return markdown.join(
            f"# {markdown.plain(said[0].upper() + said[1:])}", _say_evidence(question)
        ).rstrip("\n")
    return markdown.join(
        "# Shall the application be switched over?",
        _say_what(account),
        _say_evidence(question),
        _ways(account, question),
    ).rstrip("\n")


def form(account: Account, *, refused: str = "") -> str:
    """What stands above the form in Prefect; *refused* says why the last answer was not taken."""
    question = account.question
    if question is None:
        return ""
    again = f"**The last answer was not taken:** {markdown.plain(refused)}." if refused else ""
    # The digest is left out: who decides gets it from the evidence.
    look = (
        f"**First look** at the artifact `unify-approval` of this flow run or at "
        f"{markdown.code(str(account.run.report))}; both show the digest that is asked for below. "
        f"It may be decided until {wording.format_moment(question.expires_at)}."
    )
    return markdown.join(again, look, _say_what(account)).rstrip("\n")


def _say_what(account: Account) -> str:
    files = wording.count(account.source_count, "file")
    edits = wording.count(sum(e.when == "switch" for e in account.plan.edits) if account.plan else 0, "edit")
    restart = (
        f"; a plain restart takes {wording.format_ms(account.benchmark.restart_ms)}"
        if account.benchmark
        else ""
    )
    gates = "; ".join(v.sentence() for v in account.verdicts.values())
    home, target = markdown.code(str(account.home)), markdown.code(account.target)
    return markdown.join(
        f"**What is decided:** whether the application in {home} is stopped, moved from {files} to {target} "
        f"with {edits} of its configuration, and started again{restart}. "
        "Rows written since the backup are carried over, everything is checked again before the stop, and "
        f"{markdown.code('unify-db rollback')} takes it back.",
        f"**Why it may be:** {markdown.plain(gates)}.",
    ).rstrip("\n")


def _say_evidence(question: Question) -> str:
    asked, until = wording.format_moment(question.asked_at), wording.format_moment(question.expires_at)
    return (
        f"**Evidence:** {markdown.code(question.evidence_sha256)}, asked about at {asked}. It may be decided "
        f"until {until}; without a decision the run ends then and nothing is changed."
    )


def _ways(account: Account, question: Question) -> str:
    name, shown = account.run.name, question.evidence_sha256[:_SHOWN_CHARS]
    approve = markdown.code(f"unify-db approve {name} --evidence {shown}")
    reject = markdown.code(f'unify-db reject {name} --reason "..."')
    return (
        "**Two ways to decide,** of which the first that is used counts:\n\n"
        "- In Prefect: *Resume* on the page of the flow run, or in its menu; the form asks for your name and "
        f"{markdown.code(shown)}.\n"
        f"- In {markdown.code(str(account.home))}: {approve} or {reject}. This needs no Prefect."
    )
