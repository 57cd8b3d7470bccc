"""Commands on the models: train, judge, encode a file. argv → calls, no logic."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from pipelines.cli.options import load, with_settings


@click.command()
@click.option("--data", type=click.Path(path_type=Path), required=True, help="folder of labelled data")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("var/report"),
    show_default=True,
    help="folder to write",
)
@click.option("--quick", is_flag=True, help="a taste of it in 5 minutes, marked as such")
@click.option("--only", metavar="STEP", multiple=True, help="only this step and what it needs (repeatable)")
@click.option("--list", "list_steps", is_flag=True, help="print the steps and end")
@click.option(
    "--weights", type=click.Path(path_type=Path), help="folder of the weights (default: the shipped ones)"
)
@click.option(
    "--jobs", type=click.IntRange(1, 64), default=2, show_default=True, help="processes, a core each"
)
def evaluate(
    data: Path,
    out: Path,
    quick: bool,
    only: tuple[str, ...],
    list_steps: bool,
    weights: Path | None,
    jobs: int,
) -> None:
    """Judge encoders and fusion; write report.json, report.html and report.md to OUT.

    An interrupted run goes on where it was. Exit code 1: a step failed; steps without their files are left
    out by name.
    """
    from models.evaluation.runner import evaluate as judge
    from models.evaluation.runner import names_of

    if list_steps:
        click.echo("\n".join(names_of(data, quick)))
        return
    outcome = judge(data, out, quick, only, weights, jobs, lambda line: click.echo(line, err=True))
    sys.exit(1 if outcome.failed else 0)


@click.command()
@with_settings
@click.argument("source", metavar="IN.parquet", type=click.Path(path_type=Path))
@click.option("--modality", type=click.Choice(["text", "image", "voice"]), required=True)
@click.option("--column", required=True, help="column of texts, of bytes, or of {bytes, path}")
@click.option("--id", "id_column", required=True, help="column to copy as the id")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="parquet file to write")
def encode(
    config: Path | None,
    overrides: tuple[str, ...],
    source: Path,
    modality: str,
    column: str,
    id_column: str,
    out: Path,
) -> None:
    """Encode one column of a parquet file: embeddings, labels and scores; every input row once, in order.

    A column of another type is refused before anything is written; a row without content gets the error
    empty_value.
    """
    from pipelines.operations.encode_file import encode_file

    rows, failed = encode_file(source, out, modality, column, id_column, load(config, overrides))
    click.echo(f"wrote {rows} rows to {out} ({failed} with an error)")


@click.command()
@click.option("--data", type=click.Path(path_type=Path), required=True, help="folder of the training data")
@click.option("--only", type=click.Choice(["text", "image", "voice", "fusion"]), help="train this one alone")
@click.option(
    "--out", type=click.Path(path_type=Path), help="folder for the weights (default: the shipped ones)"
)
@click.option("--variant", help="another network than the shipped one's (with --only)")
@click.option("--folder", type=click.Path(path_type=Path), help="local Hugging Face model, for --variant hf")
@click.option("--epochs", type=click.IntRange(1), help="instead of the variant's own number")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
@click.option("--judge", is_flag=True, help="train nothing: print the figures of the weights in --out on DIR")
@click.option("--emotion", is_flag=True, help="train the emotion head of voice too (a sensitive inference)")
def train(data: Path, only: str | None, out: Path | None, judge: bool, **choice: Any) -> None:
    """Train the encoders and the fusion head; fixed seeds, progress on the way.

    DIR/dataset.yaml names files, columns and label maps; models/training/dataset.yaml is an example.
    An interrupted training goes on where it was when it is asked for again.

    \b
    Variants of text:  bag (shipped), bigru, lstm, transformer; each of the last three also as NAME-wide,
                       with the tables of the bag beside it
                image: resnet64 (shipped), resnet96
                voice: gru (shipped), cnn, transformer
                all:   hf, a frozen model of --folder
    """
    from models.training.train import Choice
    from models.training.train import judge as judge_models
    from models.training.train import train as train_models

    if judge:
        if given := [name for name, value in choice.items() if value not in (None, False, "auto")]:
            raise click.UsageError(f"expected --judge with --only and --out alone, got --{given[0]} too")
        judge_models(data, only, out, click.echo)
        return
    train_models(data, only, out, click.echo, Choice(**choice))


COMMANDS = (encode, evaluate, train)
