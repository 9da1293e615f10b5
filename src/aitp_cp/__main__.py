"""`python -m aitp_cp` is `aitp-cp`."""

from aitp_cp_client.commands.entry import main

if __name__ == "__main__":
    main()
