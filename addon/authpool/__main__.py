"""`python -m authpool` is the command `authpool`."""

from authpool.cli.main import main

if __name__ == "__main__":
    main()
