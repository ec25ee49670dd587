"""The `vidcap` command: finds the verb, imports only what it needs, turns errors into a sentence and an exit code."""

from __future__ import annotations

import importlib
import sys
from difflib import get_close_matches
from typing import Any

import click

from vidcap import __version__
from vidcap.errors import VidcapError

# Verb → module, attribute and help line. The help stands here so that `vidcap --help` imports none of them.
VERBS = {
    "run": ("vidcap.cli.run", "run", "Run a pipeline over a folder or manifest; run again to continue."),
    "plan": ("vidcap.cli.run", "plan", "Check a pipeline and show what it would do; touches nothing."),
    "report": ("vidcap.cli.report", "report", "What a run did: sources, clips, reasons."),
    "validate": (
        "vidcap.cli.look",
        "validate_command",
        "Check shards against the format; with --media also every clip.",
    ),
    "inspect": ("vidcap.cli.inspect", "inspect_command", "Look at samples: terminal, HTML file, local page."),
    "shots": ("vidcap.cli.shots", "shots", "Find the shots of media files."),
    "manifest": ("vidcap.cli.manifest", "manifest", "Write a manifest of a folder, with the files beside its videos."),
    "train-shots": ("vidcap.cli.train_shots", "train_shots", "Train the network of the shot detector `fast`."),
    "train-captioner": (
        "vidcap.cli.train_captioner",
        "train_captioner",
        "Train the audio captioner `beats_qformer` on captioned sounds.",
    ),
    "serve-llm": ("vidcap.cli.serve_llm", "serve_llm", "Serve a language model with vLLM; ends with the server."),
    "train": ("vidcap.cli.train", "train", "Train a video-audio-text model on shards."),
    "eval": ("vidcap.cli.eval", "evaluate_command", "Judge a trained model by retrieval and multiple choice."),
    "backends": ("vidcap.cli.backends", "backends", "List the backends by role."),
    "models": ("vidcap.cli.models", "models", "List models and their licences, fetch them, check their digests."),
    "doctor": ("vidcap.cli.doctor", "doctor", "What is installed, what is missing, and the line that mends it."),
}


class Verbs(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        module, attribute, _ = VERBS[cmd_name]
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in VERBS:
            near = get_close_matches(args[0], VERBS, n=1)
            hint = f"did you mean `{near[0]}`?" if near else f"verbs: {', '.join(VERBS)}"
            raise click.UsageError(f"no verb is called `{args[0]}`\nhint: {hint}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        del ctx
        with formatter.section("Verbs"):
            formatter.write_dl([(name, line) for name, (_, _, line) in VERBS.items()])


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="vidcap")
def cli() -> None:
    """Videos in, WebDataset shards of captioned clips out."""


def main(argv: list[str] | None = None) -> int:
    """Entry point. Exit codes: 0 done, 1 bug, 2 usage or configuration, 3 parts failed, 4 faults found."""
    try:
        result: Any = cli.main(args=argv, prog_name="vidcap", standalone_mode=False)
    except VidcapError as error:
        click.echo(f"error: {error}", err=True)
        return error.exit_code
    except click.exceptions.Exit as ended:
        return ended.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        click.echo("interrupted", err=True)
        return 130
    except BrokenPipeError:
        # The reader of our output has gone (`vidcap shots … | head`); say nothing, and do not fail again at exit.
        sys.stderr.close()
        return 0
    return result if isinstance(result, int) else 0


if __name__ == "__main__":
    sys.exit(main())
