"""`python -m stream` is the command `interest`."""

from stream.commands import main

if __name__ == "__main__":
    main()
