"""`python -m automodel` is the `automodel` command."""

from automodel.cli import main

if __name__ == "__main__":
    main()
