"""The `vpnshare` command: picks the command, runs it, turns errors into sentences.

Whatever goes wrong, the user sees one sentence, a hint where there is one, and
gets a stable exit code; never a trace.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from importlib import import_module

from cli.commands import COMMANDS, GROUPS, Command, parser_for
from control import calling, encoding
from control.errors import ControlError, ServiceUnavailable
from control.exits import MEANINGS, Exit, exit_code
from control.output import complain, paint, print_json
from services.room import explain
from services.version import running

SPEAK_JSON = ("api", "watch")
"""Commands for programs: they print JSON without being told."""


def main(argv: list[str] | None = None) -> int:
    """Run the command line (without the program's name); the exit code."""
    args = sys.argv[1:] if argv is None else argv
    # What follows `run` is another command's.
    ours = [] if args[:1] == ["run"] else args
    encoding.prepare()
    try:
        code = _dispatch(args)
        sys.stdout.flush()
        return code
    except ControlError as exc:
        exc = _placed(exc, ours)
        complain(exc.message, exc.hint)
        code = exit_code(exc)
        if "--json" in ours or args[0] in SPEAK_JSON:
            _print_error(exc, code)
        return code
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    except BrokenPipeError:
        # `vpnshare logs | head`: the reader has enough. Python flushes once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.FAILED
    except SystemExit as exc:  # argparse
        return exc.code if isinstance(exc.code, int) else Exit.USAGE
    except Exception as exc:
        return _unexpected(exc)


def _dispatch(args: list[str]) -> int:
    if not args or args[0] in ("-h", "--help", "help"):
        if len(args) > 1 and args[0] == "help":
            return _dispatch([args[1], "--help"])
        print(overview())
        return Exit.OK if args else Exit.USAGE
    if args[0] in ("-V", "--version"):
        print(f"vpnshare {running()}")
        return Exit.OK
    command = next((c for c in COMMANDS if c.name == args[0]), None)
    if command is None:
        return _unknown(args[0])
    options = parser_for(command).parse_args(args[1:])
    module, _, name = command.run.partition(":")
    run: Callable[[argparse.Namespace], int] = getattr(import_module(module), name)
    if getattr(options, "watch", None) is not None:
        from cli.watching import again

        return again(run, options)
    return run(options)


def _placed(error: ControlError, words: list[str]) -> ControlError:
    """The error as it is to be told on a machine that is on the other side."""
    if not isinstance(error, ServiceUnavailable):
        return error
    from cli.services import affair

    return affair(error, words)


def _print_error(error: ControlError, code: Exit) -> None:
    """The same for scripts: on standard output, where the result would be."""
    told = error.pasted()
    print_json({"error": {"exit": int(code), "name": told.name or code.name.lower(),
                          "message": told.message, "hint": told.hint}})  # fmt: skip


def _unknown(name: str) -> int:
    import difflib

    near = difflib.get_close_matches(name, [c.name for c in COMMANDS], 1)
    hint = f"Did you mean: vpnshare {near[0]}" if near else "All commands: vpnshare --help"
    complain(f"There is no command {name!r}.", hint)
    return Exit.USAGE


def _unexpected(error: Exception) -> int:
    """A fault of ours, or of the system: a sentence, and the trace only where it was asked for."""
    if isinstance(error, OSError) and error.strerror:
        complain(*explain(error))
    else:
        complain(
            f"The command failed unexpectedly ({type(error).__name__}: {error}).",
            "VPNSHARE_DEBUG=1 shows the details.",
        )
    if os.environ.get("VPNSHARE_DEBUG"):
        import traceback

        traceback.print_exception(error)
    return Exit.FAILED


def overview() -> str:
    """The help of the command as a whole."""
    lines = [
        f"usage: {calling.name()} COMMAND [options]",
        "",
        "Share this device's VPN with the devices beside it.",
    ]
    for group in GROUPS:
        lines += ["", paint(f"{group}:", "bold")]
        lines += [_summary(c) for c in COMMANDS if c.group == group]
    lines += ["", paint("Exit codes:", "bold")]
    lines += [f"  {code:<11} {MEANINGS[code]}" for code in MEANINGS]
    lines += [
        "",
        f"{calling.name()} COMMAND --help shows options and examples.",
        "VPNSHARE_HOME=FOLDER keeps config, state and sockets of an instance in FOLDER.",
    ]
    return "\n".join(lines)


def _summary(command: Command) -> str:
    return f"  {command.name:<11} {command.help}"


if __name__ == "__main__":
    sys.exit(main())
