"""`python -m aitp_cp` is `aitp-cp`."""

from aitp_cp.cli import main

if __name__ == "__main__":
    main()
