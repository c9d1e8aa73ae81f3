"""The `stele` command line. Exit codes stand in exits.py, settings in connection.py."""
