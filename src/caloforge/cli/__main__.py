"""`python -m caloforge.cli`, the same as `caloforge`."""

from . import main

if __name__ == "__main__":
    main()
