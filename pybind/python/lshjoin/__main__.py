"""The command ``lshjoin``."""

import argparse

from lshjoin import __version__, _lshjoin


def main() -> None:
    """Parses the command line."""
    parser = argparse.ArgumentParser(
        prog="lshjoin", description="Nearest-neighbour and similarity joins of embeddings."
    )
    parser.add_argument(
        "--version",
        action="version",
        version=f"lshjoin {__version__}, running on {_lshjoin.isa()} "
        f"(this machine has {', '.join(_lshjoin.cpu_features())})",
        help="version and instruction sets",
    )
    parser.parse_args()
    parser.print_help()


if __name__ == "__main__":
    main()
