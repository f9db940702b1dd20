"""``python -m whycam``: the command line."""

from whycam.cli import main

if __name__ == "__main__":
    main()
