"""`genlab <command> <overrides>`: the command line, which answers questions about itself without importing torch."""

import sys

from genlab import __version__
from genlab.runner.configs import choices, config_folder, extra_folder, fail, nearest

COMMANDS = {
    "train": "train a model:            genlab train model=ddpm data=digits",
    "sample": "draw samples:             genlab sample ckpt=outputs/RUN n=64 sampler=ddim sampler.steps=50",
    "eval": "measure a model:          genlab eval ckpt=outputs/RUN metric=[fid,is,nll]",
    "compare": "compare runs:             genlab compare outputs/RUN outputs/OTHER",
    "list": "name what there is:       genlab list models",
}

LISTS = {
    "models": "model",
    "data": "data",
    "samplers": "sampler",
    "guidances": "guidance",
    "metrics": "metric",
    "networks": "network",
    "schedules": "schedule",
    "weightings": "weighting",
    "times": "times",
    "trainers": "trainer",
    "tasks": "task",
    "conditioners": "conditioner",
    "encoders": "encoder",
    "bottlenecks": "bottleneck",
    "decoders": "decoder",
    "outputs": "output",
    "objectives": "objective",
    "corruptions": "corruption",
    "critics": "critic",
    "generators": "generator",
    "noises": "noise",
    "penalties": "penalty",
    "regularizers": "regularizer",
    "augmentations": "augment",
    "perceptuals": "perceptual",
    "transforms": "transform",
    "bases": "base",
    "preprocessings": "preprocess",
    "estimators": "estimator",
    "optimizers": "optim",
    "experiments": "experiment",
}


def root_text(command: str) -> str:
    """The command's root config from its first line to the program's own settings, less the defaults list."""
    lines = (config_folder() / f"{command}.yaml").read_text(encoding="utf-8").split("\nhydra:")[0].splitlines()
    first = next(i for i, line in enumerate(lines) if not line.startswith("#"))
    last = next(i for i in range(first + 1, len(lines)) if not lines[i].startswith(" "))
    about = [line.removeprefix("# ") for line in lines[:first]]
    return "\n".join([*about, "", "Options:", *(f"  {line}" for line in lines[last:] if not line.startswith("spec:"))])


def groups_of(command: str) -> list[str]:
    """The config groups that the command's defaults list names."""
    lines = (config_folder() / f"{command}.yaml").read_text(encoding="utf-8").splitlines()
    names = [line.strip()[2:].split(":")[0] for line in lines if line.startswith("  - ") and ":" in line]
    return [name for name in names if not name.startswith("override") and (config_folder() / name).is_dir()]


def usage() -> str:
    lines = [f"genlab {__version__}: one config-driven lab for generative models", ""]
    lines += ["Usage: genlab <command> [option=value ...]", ""]
    lines += [f"  {name:7} {text}" for name, text in COMMANDS.items()]
    lines += ["", "Choices (option=choice):"]
    lines += [f"  {group:12} {', '.join(choices(group))}" for group in LISTS.values() if choices(group)]
    lines += ["", "`genlab <command> -h` shows a command's options; `-m` sweeps over comma-separated values."]
    return "\n".join(lines)


def command_help(command: str) -> str:
    if command == "list":
        return f"Usage: genlab list {'|'.join(LISTS)}"
    if command == "compare":
        return f"Usage: genlab compare [RUN ...] [option=value ...]\n\n{root_text(command)}"
    lines = [f"Usage: genlab {command} [option=value ...] [-m] [--config-dir DIR]", "", root_text(command)]
    lines += ["", "Choices (option=choice):"]
    for group in groups_of(command):
        lines += [f"  {group}", *(f"    {name:14} {text}" for name, text in choices(group).items())]
    return "\n".join(lines)


def list_choices(arguments: list[str]) -> int:
    extra = extra_folder(arguments)
    flags = [i for i, argument in enumerate(arguments) if argument.split("=")[0] in ("--config-dir", "-cd")]
    values = [i + 1 for i in flags if "=" not in arguments[i]]
    names = [argument for i, argument in enumerate(arguments) if i not in (*flags, *values)]
    if len(names) != 1:
        return fail(f"list: name one of {', '.join(LISTS)}")
    if names[0] not in LISTS:
        return fail(f"list: there is nothing called {names[0]}{nearest(names[0], list(LISTS))}")
    if extra is not None and not extra.is_dir():
        return fail(f"--config-dir: there is no folder {extra}")
    found = choices(LISTS[names[0]], extra)
    width = max(map(len, found), default=0)
    for name, text in found.items():
        print(f"{name:{width}}  {text}")
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit status: 0, 1 for a bug, 2 for a mistake in what was asked."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(usage())
        return 0
    if arguments[0] in ("-V", "--version"):
        print(f"genlab {__version__}")
        return 0
    command, rest = arguments[0], arguments[1:]
    if command not in COMMANDS:
        return fail(f"no such command: {command}{nearest(command, list(COMMANDS))}")
    if "-h" in rest or "--help" in rest:
        print(command_help(command))
        return 0
    if command == "list":
        return list_choices(rest)
    try:
        if command == "compare":
            from genlab.runner.compare import launch as compare

            return compare(rest)
        from genlab.runner.launch import launch

        return launch(command, rest)
    except KeyboardInterrupt:
        print("genlab: interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
