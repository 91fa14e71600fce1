"""The ``rarepixel`` command. Needs typer and rich: ``pip install 'rarepixel[cli]'``."""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import typer


def make_app() -> typer.Typer:
    """The command with its groups of subcommands.

    Raises:
        ImportError: typer or rich is missing.
    """
    try:
        import rich  # noqa: F401
        import typer
    except ImportError as error:
        raise ImportError(f"rarepixel needs typer and rich here: pip install 'rarepixel[cli]' ({error})") from error
    from ._caffe_commands import app as caffe
    from ._compare_commands import compare
    from ._data_commands import app as data
    from ._evaluate_commands import evaluate
    from ._nnunet_commands import app as nnunet
    from ._report_commands import report
    from ._see_commands import app as see
    from ._train_commands import OVERRIDES, predict, train
    from ._version import __version__

    app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
    app.add_typer(caffe, name="caffe")
    app.add_typer(data, name="data")
    app.add_typer(nnunet, name="nnunet")
    app.add_typer(see, name="see")
    app.command()(evaluate)
    app.command()(report)
    app.command(context_settings=OVERRIDES)(train)
    app.command()(predict)
    app.command(context_settings=OVERRIDES)(compare)

    def version(wanted: bool) -> None:
        if wanted:
            typer.echo(__version__)
            raise typer.Exit

    @app.callback(help="Fused PyTorch losses for rare pixels. `python -m rarepixel` says what is built and in use.")
    def top(
        show_version: bool = typer.Option(
            False, "--version", callback=version, is_eager=True, help="Print the version."
        ),
    ) -> None:
        del show_version

    return app


def main() -> None:
    """Entry point."""
    # Import paths in recipes may lead to modules of the folder that the command is given in, as of `python -m`.
    sys.path.append(os.getcwd())  # noqa: PTH109  # a str
    try:
        app = make_app()
        app()
    except ImportError as error:
        raise SystemExit(str(error)) from None
    except KeyboardInterrupt:
        raise SystemExit(128 + signal.SIGINT) from None
